/** A line of a chart. */
export interface ChartLine {
  label: string;
  /** The label in the legend, where many lines leave no space for long ones. @defaultValue the label */
  shortLabel?: string | undefined;
  /** Number of the colour `--series-…`, from 1. */
  color: number;
  steps: readonly number[];
  values: readonly number[];
  /** The range of the steps that a point stands for, drawn as a band around the line. */
  range?: { min: readonly number[]; max: readonly number[] } | undefined;
  /** True if each point has a mark: for few points. */
  hasMarks?: boolean | undefined;
  /** Thin: the values behind a smoothed line. @defaultValue 'line' */
  stroke?: 'line' | 'thin' | undefined;
  /** True if it is made from another line, so that it needs no sentence and no column of its own. */
  isDerived?: boolean | undefined;
}

/** Colours of series. */
export const SERIES_COLORS = 6;

/** The number of a colour for the line with this index; they repeat. */
export function seriesColor(index: number): number {
  return (index % SERIES_COLORS) + 1;
}

/** The quantities over which a chart can be drawn. */
export const AXES = ['step', 'tokens', 'time'] as const;
export type AxisName = (typeof AXES)[number];

/** The horizontal axis of a chart. */
export interface ChartAxis {
  name: AxisName;
  /** The position of a step on it. */
  at: (step: number) => number;
}

export const STEP_AXIS: ChartAxis = { name: 'step', at: (step) => step };

/**
 * A function from steps to positions that are known at some steps, with straight lines between them.
 * @param steps ascending
 */
export function interpolation(steps: readonly number[], positions: readonly number[]): (step: number) => number {
  return (step) => {
    let low = -1;
    let high = steps.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle]! <= step) low = middle;
      else high = middle;
    }
    const [fromStep, from] = low < 0 ? [0, 0] : [steps[low]!, positions[low]!];
    if (low === steps.length - 1) return from;
    const share = (step - fromStep) / (steps[low + 1]! - fromStep);
    return from + share * (positions[low + 1]! - from);
  };
}

/**
 * The exponential moving average of a line, as TensorBoard's: without a bias to the first values.
 * @param weight of what came before, from 0 (the values themselves) to below 1
 */
export function smoothed(values: readonly number[], weight: number): number[] {
  let average = 0;
  let total = 0;
  return values.map((value) => {
    average = weight * average + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return average / total;
  });
}
