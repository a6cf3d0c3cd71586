import { durationText } from '@lorasmith/client/core';
import type { AxisName, ChartLine } from './chart-line.js';

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
