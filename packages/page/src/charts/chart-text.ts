import type { ChartLine } from './chart-line.js';
import { numberText } from './number-text.js';

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
