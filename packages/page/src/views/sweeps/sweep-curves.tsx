import type { Sweep, SweepVariant } from '@lorasmith/contracts';
import type { ChartLine } from '../../charts/chart-line.js';
import { LineChart } from '../../charts/line-chart.js';
import { Loaded } from '../../components/error-notice.js';
import type { JobHistory } from '../../history/job-history.js';
import { useJobHistories } from '../../history/use-job-history.js';
import { changeQuery } from '../../location.js';
import { curveLineWithoutBand, evaluationLine } from '../job/training-charts.js';
import { type ColorGroup, type VariedField, variantText } from './sweep-variants.js';

/** The variants whose values the legends have; of more than these they have the numbers. */
const MAX_LONG_LABELS = 8;

export interface SweepCurvesProps {
  sweep: Sweep;
  fields: readonly VariedField[];
  /** The colour of a variant. */
  colorOf: (one: SweepVariant) => number;
  /** The field whose values have the colours. */
  colored: VariedField | undefined;
  groups: readonly ColorGroup[];
}

/** The curves of all variants over each other. */
export function SweepCurves({ sweep, fields, colorOf, colored, groups }: SweepCurvesProps) {
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
              <span class={`series-mark series-${color}`} aria-hidden="true" /> {text}
            </li>
          ))}
        </ul>
      </div>
      <Loaded from={histories} what="the curves">
        {(read) => {
          const lines = (draw: (history: JobHistory, label: string, color: number) => ChartLine) =>
            variants.flatMap((one) => {
              const history = read.get(one.job);
              if (history === undefined) return [];
              const shortLabel = variants.length > MAX_LONG_LABELS ? `#${one.variant}` : undefined;
              return [{ ...draw(history, variantText(fields, one), colorOf(one)), shortLabel }];
            });
          return (
            <div class="charts">
              <LineChart
                title={`Held-out ${sweep.metric}`}
                lines={lines((history, label, color) => evaluationLine(history, label, color, sweep.metric))}
              />
              <LineChart
                title="Training loss"
                lines={lines((history, label, color) => curveLineWithoutBand(history, 'loss', label, color))}
              />
            </div>
          );
        }}
      </Loaded>
    </section>
  );
}
