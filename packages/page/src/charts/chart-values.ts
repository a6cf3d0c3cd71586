import { durationText } from '@lorasmith/client/core';

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

/** A line as a sentence. */
export function lineText({ label, steps, values }: ChartLine): string {
  if (steps.length === 0) return `${label}: no values yet.`;
  const lowest = values.reduce((best, value, index) => (value < values[best]! ? index : best), 0);
  const last = steps.length - 1;
  const at = (index: number) => `${numberText(values[index]!)} at step ${steps[index]}`;
  if (last === 0) return `${label}: ${at(0)}.`;
  return `${label}: from ${at(0)} to ${at(last)}; lowest ${at(lowest)}.`;
}

export interface ChartTable {
  steps: number[];
  /** The value of each line at each of the steps: the last one until then, null before its first. */
  values: (number | null)[][];
}

/** Some of the steps of a chart, evenly spaced, with the values of its lines. */
export function chartTable(lines: readonly ChartLine[], maxRows: number): ChartTable {
  const all = [...new Set(lines.flatMap(({ steps }) => steps))].sort((a, b) => a - b);
  const count = Math.min(maxRows, all.length);
  const steps = Array.from(
    { length: count },
    (_, i) => all[Math.round((i * (all.length - 1)) / Math.max(1, count - 1))]!,
  );
  return { steps, values: lines.map((line) => steps.map((step) => valueAt(line, step))) };
}

function valueAt({ steps, values }: ChartLine, step: number): number | null {
  const after = steps.findIndex((one) => one > step);
  const index = (after === -1 ? steps.length : after) - 1;
  return index < 0 ? null : values[index]!;
}

/** A number of any size in a few characters: `0.4123`, `1.2e-5`, `12,340`. */
export function numberText(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7)
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(4)));
}

/** The first and the last value, `0.694 → 0.002`, or the only one; empty without values. */
export function changeText(values: readonly number[], text: (value: number) => string = shortText): string {
  const [first] = values;
  const last = values.at(-1);
  if (first === undefined || last === undefined) return '';
  return values.length === 1 ? text(last) : `${text(first)} → ${text(last)}`;
}

function shortText(value: number): string {
  return numberText(Number(value.toPrecision(3)));
}

/** A position on an axis, such as `1.2M` tokens. */
export function positionText(name: AxisName, position: number): string {
  if (name === 'time') return durationText(position);
  if (name === 'step') return position.toLocaleString('en-US');
  if (position >= 1e6) return `${Number((position / 1e6).toPrecision(3))}M`;
  return position >= 1e4 ? `${Number((position / 1e3).toPrecision(3))}k` : numberText(position);
}
