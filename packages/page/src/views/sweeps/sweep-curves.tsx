import type { Sweep, SweepVariant } from '@lorasmith/contracts';
import type { ChartLine } from '../../charts/chart-line.js';
import { LineChart } from '../../charts/line-chart.js';
import { Loaded } from '../../components/loaded.js';
import type { JobHistory } from '../../history/job-history.js';
import { useJobHistories } from '../../history/use-job-histories.js';
import { changeQuery } from '../../location.js';
import { curveLine, evaluationLine } from '../job/training-charts.js';
import { type VariedField, variantText } from './sweep-fields.js';
import type { ColorGroup } from './value-axis.js';

export interface SweepCurvesProps {
  sweep: Sweep;
  fields: readonly VariedField[];
  /** The colour of each variant by its number. */
  colors: ReadonlyMap<number, number>;
  /** The field whose values have the colours. */
  colored: VariedField | undefined;
  groups: readonly ColorGroup[];
}

/** The curves of all variants over each other. */
export function SweepCurves({ sweep, fields, colors, colored, groups }: SweepCurvesProps) {
  // A deleted job has no events.
  const variants = sweep.variants.filter(({ status }) => status !== null);
  const histories = useJobHistories(variants.map(({ job }) => job));
  return (
    <section class="view-section" aria-label="Curves">
      <h2 class="visually-hidden">Curves</h2>
      <div class="filters">
        {fields.length === 1 ? (
          <span>Colours by {colored?.label}</span>
        ) : (
          <label>
            Colours by{' '}
            <select value={colored?.path} onChange={({ currentTarget }) => changeQuery({ color: currentTarget.value })}>
              {fields.map(({ path, label }) => (
                <option key={path} value={path}>
                  {label}
                </option>
              ))}
            </select>
          </label>
        )}
        <ul class="color-key" aria-label={`Colours by ${colored?.label}`}>
          {groups.map(({ text, color }) => (
            <li key={color}>
              <span class={`series-mark series-mark-${color}`} aria-hidden="true" /> {text}
            </li>
          ))}
        </ul>
      </div>
      <Loaded from={histories} what="the curves">
        {(read) => {
          const lines = (draw: (history: JobHistory, label: string, color: number) => ChartLine) =>
            variants.flatMap((one: SweepVariant) => {
              const history = read.get(one.job);
              const color = colors.get(one.variant) ?? 1;
              return history === undefined ? [] : [draw(history, variantText(fields, one), color)];
            });
          return (
            <div class="charts">
              <LineChart title={`Held-out ${sweep.metric}`} lines={lines(metricLine(sweep.metric))} />
              <LineChart
                title="Training loss"
                // Bands of several jobs would hide each other.
                lines={lines((history, label, color) => ({
                  ...curveLine(history, 'loss', label, color),
                  range: undefined,
                }))}
              />
            </div>
          );
        }}
      </Loaded>
    </section>
  );
}

function metricLine(metric: Sweep['metric']): (history: JobHistory, label: string, color: number) => ChartLine {
  if (metric !== 'reward') return (history, label, color) => evaluationLine(history, label, color, metric);
  // The held-out loss of sampled answers is their mean reward, negative.
  return (history, label, color) => {
    const line = evaluationLine(history, label, color);
    return { ...line, values: line.values.map((value) => -value) };
  };
}
