import { sweepValueText } from '@lorasmith/client/core';
import type { SweepValue } from '@lorasmith/contracts';
import { SERIES_COLORS } from '../../charts/chart-line.js';
import { numberText } from '../../charts/number-text.js';

/** An axis of a drawing of variants. */
export interface ValueAxis {
  title: string;
  ticks: readonly { text: string; at: number }[];
  /** The place of a value, from 0 to 1. */
  at: (value: SweepValue) => number;
}

/** Positive numbers of which the largest is at least so many times the smallest have a logarithmic axis. */
const MIN_LOG_RATIO = 4;
/** An axis with more values has a tick for the first, the middle and the last. */
const MAX_TICKS = 5;

/** The identity of a value, also of a list. */
const keyOf = (value: SweepValue) => JSON.stringify(value);

/** The different values: numbers ascending, others in the order in which the variants have them. */
export function distinctValues(values: readonly SweepValue[]): SweepValue[] {
  const distinct = [...new Map(values.map((value) => [keyOf(value), value])).values()];
  return distinct.every((value) => typeof value === 'number') ? distinct.sort((one, other) => one - other) : distinct;
}

/** The axis of a field: of numbers linear or logarithmic, of other values at even distances. */
export function fieldAxis(title: string, values: readonly SweepValue[]): ValueAxis {
  const distinct = distinctValues(values);
  const at = distinct.every((value) => typeof value === 'number') ? numberPlace(distinct) : listPlace(distinct);
  const last = distinct.length - 1;
  const ticked = distinct.length <= MAX_TICKS ? distinct : [0, last >> 1, last].map((index) => distinct[index]!);
  return { title, ticks: ticked.map((value) => ({ text: sweepValueText(value), at: at(value) })), at };
}

/** The axis of the metric, linear between its least and its greatest value. */
export function metricAxis(title: string, values: readonly number[]): ValueAxis {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const at = (value: SweepValue) => share(value as number, low, high);
  const ticked = low === high ? [low] : [low, (low + high) / 2, high];
  return { title, ticks: ticked.map((value) => ({ text: numberText(value), at: at(value) })), at };
}

function numberPlace(ascending: readonly number[]): ValueAxis['at'] {
  const [low, high] = [ascending[0]!, ascending.at(-1)!];
  if (low > 0 && high >= MIN_LOG_RATIO * low)
    return (value) => share(Math.log(value as number), Math.log(low), Math.log(high));
  return (value) => share(value as number, low, high);
}

function listPlace(distinct: readonly SweepValue[]): ValueAxis['at'] {
  const keys = distinct.map(keyOf);
  return (value) => share(keys.indexOf(keyOf(value)), 0, keys.length - 1);
}

function share(value: number, low: number, high: number): number {
  return low === high ? 0.5 : (value - low) / (high - low);
}

/** Neighbouring values that are drawn in one colour. */
export interface ColorGroup {
  /** The values, such as `4`, or `4 to 16`. */
  text: string;
  /** See {@link SERIES_COLORS}. */
  color: number;
}

/** A colour for each value; where there are more values than colours, neighbours have the same. */
export function valueColors(values: readonly SweepValue[]): {
  groups: ColorGroup[];
  colorOf: (value: SweepValue) => number;
} {
  const distinct = distinctValues(values);
  const perColor = Math.max(1, distinct.length / SERIES_COLORS);
  const colors = new Map(distinct.map((value, index) => [keyOf(value), 1 + Math.floor(index / perColor)]));
  const colorOf = (value: SweepValue) => colors.get(keyOf(value)) ?? 1;
  const areNumbers = distinct.every((value) => typeof value === 'number');
  const groups = [...new Set(colors.values())].map((color) => {
    const texts = distinct.filter((value) => colorOf(value) === color).map(sweepValueText);
    const isRange = areNumbers && texts.length > 1;
    return { color, text: isRange ? `${texts[0]} to ${texts.at(-1)}` : texts.join(', ') };
  });
  return { groups, colorOf };
}
