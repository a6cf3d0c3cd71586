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
  /** Whether each point has a mark: for few points. */
  hasMarks?: boolean | undefined;
  /** Thin: the values behind a smoothed line. @defaultValue 'line' */
  stroke?: 'line' | 'thin' | undefined;
  /** Whether it is made from another line, so that it needs no sentence and no column of its own. */
  isDerived?: boolean | undefined;
}

/** Colours of series. */
export const SERIES_COLORS = 6;

/** The number of a colour for the line with this index; they repeat. */
export function seriesColor(index: number): number {
  return (index % SERIES_COLORS) + 1;
}
