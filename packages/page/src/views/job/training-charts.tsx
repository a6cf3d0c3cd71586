import type { Report } from '@lorasmith/contracts';
import {
  AXES,
  type AxisName,
  type ChartAxis,
  type ChartLine,
  interpolation,
  STEP_AXIS,
  smoothed,
} from '../../charts/chart-values.js';
import { LineChart } from '../../charts/line-chart.js';
import { type CurveName, type JobHistory, rewardOf, scoresOf } from '../../history/job-history.js';
import { changeQuery } from '../../location.js';

/** The group of charts that show the values at the same step. */
const GROUP = 'job';
/** Fewer points are a line already. */
const MIN_SMOOTHED = 3;

export interface TrainingChartsProps {
  history: JobHistory;
  report: Report | null;
  query: URLSearchParams;
}

/** The curves of a training: the loss large, or the reward where answers are graded, the others next to it. */
export function TrainingCharts({ history, report, query }: TrainingChartsProps) {
  const { firstStep, evaluations } = history;
  if (firstStep === null && evaluations.length === 0) return null;
  const settings = chartSettingsOf(query);
  const axis = axisOf(settings.axis, history, report);
  const small = { size: 'small', axis, group: GROUP } as const;
  const saved = history.noted.flatMap((event) => (event.type === 'checkpoint-saved' ? [event.data.step] : []));
  const isGraded = history.lastStep?.group !== undefined;
  const leading = isGraded
    ? curveLine(history, 'reward', 'mean of a step', 1)
    : curveLine(history, 'loss', 'training', 1);
  const accuracy = [
    curveLine(history, 'accuracy', 'training', 1),
    ...(evaluations.length === 0 ? [] : [evaluationLine(history, 'held-out rows', 2, 'accuracy')]),
  ];
  return (
    <section class="job-charts" aria-label="Curves">
      <h2 class="visually-hidden">Curves</h2>
      <LineChart
        title={isGraded ? 'Reward' : 'Loss'}
        lines={[
          ...smoothedLines(leading, settings.smoothing),
          ...(evaluations.length === 0
            ? []
            : [evaluationLine(history, 'held-out rows', 2, isGraded ? 'reward' : 'loss')]),
        ]}
        axis={axis}
        isLogarithmic={settings.isLogarithmic}
        marks={saved}
        group={GROUP}
        controls={<ChartControls {...settings} />}
      />
      <LineChart title={isGraded ? 'Answers that end' : 'Accuracy'} lines={accuracy} {...small} />
      {scoresOf(history).length > 0 && (
        <LineChart
          title="Answers to held-out rows"
          lines={[
            scoreLine(history, 'exact_match', 'exact match', 1),
            scoreLine(history, 'f1', 'F1', 2),
            scoreLine(history, 'rouge_l', 'ROUGE-L', 3),
          ]}
          {...small}
        />
      )}
      {isGraded && (
        <>
          <LineChart
            title="Spread of the rewards"
            lines={[curveLine(history, 'reward_std', 'standard deviation', 2)]}
            {...small}
          />
          <LineChart title="Loss" lines={[curveLine(history, 'loss', 'training', 1)]} {...small} />
          <LineChart
            title="Answer length"
            lines={[curveLine(history, 'completions/mean_length', 'mean tokens', 3)]}
            {...small}
          />
          <LineChart
            title="Shares"
            lines={[
              curveLine(history, 'frac_reward_zero_std', 'groups of equal rewards', 1),
              curveLine(history, 'completions/clipped_ratio', 'answers cut', 2),
              curveLine(history, 'clip_ratio/region_mean', 'tokens clipped', 3),
            ]}
            {...small}
          />
        </>
      )}
      {history.lastStep?.preference === undefined ? null : (
        <>
          <LineChart
            title="Rewards"
            lines={[
              curveLine(history, 'rewards/chosen', 'chosen', 1),
              curveLine(history, 'rewards/rejected', 'rejected', 2),
              curveLine(history, 'rewards/margins', 'margin', 3),
            ]}
            {...small}
          />
          <LineChart
            title="Log-probabilities"
            lines={[
              curveLine(history, 'logps/chosen', 'chosen', 1),
              curveLine(history, 'logps/rejected', 'rejected', 2),
            ]}
            {...small}
          />
        </>
      )}
      {(history.lastStep?.group ?? history.lastStep?.preference)?.kl === undefined ? null : (
        <LineChart title="KL" lines={[curveLine(history, 'kl', 'to the reference', 4)]} {...small} />
      )}
      <LineChart title="Learning rate" lines={[curveLine(history, 'learning_rate', 'learning rate', 3)]} {...small} />
      <LineChart title="Gradient norm" lines={[curveLine(history, 'grad_norm', 'before clipping', 4)]} {...small} />
      <LineChart title="Tokens/s" lines={[curveLine(history, 'tokens_per_second', 'tokens/s', 5)]} {...small} />
    </section>
  );
}

/** The values thin, and the smoothed line thick before them. The sentence is of the values. */
function smoothedLines(line: ChartLine, smoothing: number): ChartLine[] {
  if (smoothing === 0 || line.steps.length < MIN_SMOOTHED) return [line];
  const smooth = {
    ...line,
    label: 'smoothed',
    range: undefined,
    values: smoothed(line.values, smoothing),
    isDerived: true,
  };
  return [{ ...line, stroke: 'thin' }, smooth];
}

function axisOf(name: AxisName, { curves, seconds }: JobHistory, report: Report | null): ChartAxis {
  if (name === 'time') {
    const { steps, max } = seconds.points();
    return { name, at: interpolation(steps, max) };
  }
  if (name === 'tokens' && report !== null) {
    const { steps, max } = curves.epoch.points();
    return {
      name,
      at: interpolation(
        steps,
        max.map((epoch) => epoch * report.tokens.per_epoch),
      ),
    };
  }
  return STEP_AXIS;
}

function curveLine({ curves }: JobHistory, name: CurveName, label: string, color: number): ChartLine {
  const { steps, mean, min, max } = curves[name].points();
  return { label, color, steps, values: mean, range: curves[name].stepsPerPoint > 1 ? { min, max } : undefined };
}

function scoreLine(
  history: JobHistory,
  score: 'exact_match' | 'f1' | 'rouge_l',
  label: string,
  color: number,
): ChartLine {
  const rounds = scoresOf(history);
  const values = rounds.map(({ scores }) => scores[score]);
  return { label, color, steps: rounds.map(({ step }) => step), values, hasMarks: true };
}

/** A curve of one of several jobs in a chart: bands of several would hide each other. */
export function curveLineWithoutBand(history: JobHistory, name: CurveName, label: string, color: number): ChartLine {
  return { ...curveLine(history, name, label, color), range: undefined };
}

export function evaluationLine(
  { evaluations }: JobHistory,
  label: string,
  color: number,
  of: 'loss' | 'accuracy' | 'reward' = 'loss',
): ChartLine {
  return {
    label,
    color,
    steps: evaluations.map(({ step }) => step),
    values: evaluations.map((one) => (of === 'reward' ? rewardOf(one) : one[of])),
    hasMarks: evaluations.length <= 50,
  };
}

/** Settings of the curves of a job, which the address has. */
export interface ChartSettings {
  /** See `smoothed`. */
  smoothing: number;
  isLogarithmic: boolean;
  axis: AxisName;
}

const SMOOTHING = 0.6;
const MAX_SMOOTHING = 0.99;

function chartSettingsOf(query: URLSearchParams): ChartSettings {
  const given = Number(query.get('smooth') ?? SMOOTHING);
  return {
    smoothing: given >= 0 && given <= MAX_SMOOTHING ? given : SMOOTHING,
    isLogarithmic: query.get('log') === 'yes',
    axis: AXES.find((name) => name === query.get('x')) ?? 'step',
  };
}

function ChartControls({ smoothing, isLogarithmic, axis }: ChartSettings) {
  return (
    <div class="chart-controls">
      <label>
        Smooth{' '}
        <input
          type="range"
          min="0"
          max={MAX_SMOOTHING}
          step="0.01"
          value={smoothing}
          onInput={({ currentTarget: { value } }) =>
            changeQuery({ smooth: Number(value) === SMOOTHING ? undefined : value })
          }
        />
      </label>
      <label>
        <input
          type="checkbox"
          checked={isLogarithmic}
          onChange={({ currentTarget }) => changeQuery({ log: currentTarget.checked ? 'yes' : undefined })}
        />{' '}
        Log
      </label>
      <label>
        Over{' '}
        <select
          value={axis}
          onChange={({ currentTarget: { value } }) => changeQuery({ x: value === 'step' ? undefined : value })}
        >
          {AXES.map((name) => (
            <option key={name} value={name}>
              {name === 'step' ? 'steps' : name}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
