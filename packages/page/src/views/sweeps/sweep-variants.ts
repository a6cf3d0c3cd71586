import { sweepValueText } from '@lorasmith/client/core';
import type { Job, Sweep, SweepValue, SweepVariant, VariantValues } from '@lorasmith/contracts';
import { numberText, SERIES_COLORS } from '../../charts/chart-values.js';
import { jobFields } from '../new-job/job-fields.js';

/** A field of the job that the variants of a sweep have different values of. */
export interface VariedField {
  /** Such as `training.learning_rate`. */
  path: string;
  /** The label in the form of a job. */
  label: string;
  /** Such as `learning_rate`. */
  shortName: string;
}

const FIELDS = jobFields();

/** The fields of a sweep that differ; if none does, those that it names. */
export function variedFields({ variants, request }: Pick<Sweep, 'variants' | 'request'>): VariedField[] {
  const paths = Object.keys(request.space);
  const differ = paths.filter((path) => distinctValues(variants.map(({ values }) => values[path] ?? null)).length > 1);
  const names = paths.map(lastName);
  return (differ.length === 0 ? paths : differ).map((path) => {
    const name = lastName(path);
    const isUnique = names.indexOf(name) === names.lastIndexOf(name);
    return { path, label: fieldLabel(path), shortName: isUnique ? name : path };
  });
}

export function fieldLabel(path: string): string {
  return FIELDS.find(({ id }) => id === path)?.label ?? path;
}

function lastName(path: string): string {
  return path.split('.').at(-1)!;
}

/** A variant in few words: `#3: r 8, learning_rate 0.001`. */
export function variantText(fields: readonly VariedField[], { variant, values }: SweepVariant): string {
  const texts = fields.map(({ path, shortName }) => `${shortName} ${sweepValueText(values[path])}`);
  return `#${variant}: ${texts.join(', ')}`;
}

/** The best variant; undefined before the sweep has one. */
export function bestOf({ variants, best }: Pick<Sweep, 'variants' | 'best'>): SweepVariant | undefined {
  return variants.find(({ job }) => job === best);
}

/** The fields of the form with which the job of a variant trains twice as long. */
export function twiceAsLong({ request }: Pick<Sweep, 'request'>, values: VariantValues): Record<string, string> {
  const { training = {} } = request.job;
  const steps = values['training.max_steps'] ?? training.max_steps;
  if (typeof steps === 'number') return { 'training.max_steps': String(2 * steps) };
  const preset = FIELDS.find(({ id }) => id === 'training.epochs')?.preset;
  return { 'training.epochs': String(2 * Number(values['training.epochs'] ?? training.epochs ?? preset)) };
}

/** An axis of a drawing of variants. */
export interface ValueAxis {
  title: string;
  ticks: readonly { text: string; at: number }[];
  /** The position of a value, from 0 to 1. */
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
  const at = distinct.every((value) => typeof value === 'number') ? numberPosition(distinct) : listPosition(distinct);
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

function numberPosition(ascending: readonly number[]): ValueAxis['at'] {
  const [low, high] = [ascending[0]!, ascending.at(-1)!];
  if (low > 0 && high >= MIN_LOG_RATIO * low)
    return (value) => share(Math.log(value as number), Math.log(low), Math.log(high));
  return (value) => share(value as number, low, high);
}

function listPosition(distinct: readonly SweepValue[]): ValueAxis['at'] {
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

type Halved = Pick<Sweep, 'request' | 'rungs' | 'variants'>;

/** The rung that is decided next, by its step, with the variants that it decides on; null without halving, and once one of them is left. */
export function nextRung({ request, rungs, variants }: Halved): { step: number; left: number[] } | null {
  if (request.halving === undefined) return null;
  const left = rungs.at(-1)?.kept ?? variants.map(({ variant }) => variant);
  return left.length > 1 ? { step: request.halving.first_steps * 2 ** rungs.length, left } : null;
}

/** The step of the rung at which a variant waits for the others; null if it does not wait. */
export function waitsAtStep(sweep: Halved, { variant, status, step }: SweepVariant): number | null {
  const next = nextRung(sweep);
  const hasCome = next !== null && status === 'paused' && step === next.step && next.left.includes(variant);
  return hasCome ? next.step : null;
}

/** True if resuming the job lets it train: not while it waits at a rung of its sweep, nor before that is known. @param sweep - Null without one; undefined until it is read */
export function mayResume(
  { sweep: origin, status }: Pick<Job, 'sweep' | 'status'>,
  sweep: Sweep | null | undefined,
): boolean {
  if (origin === undefined || status !== 'paused' || sweep === null) return true;
  const variant = sweep?.variants.find((one) => one.variant === origin.variant);
  return sweep !== undefined && (variant === undefined || waitsAtStep(sweep, { ...variant, status }) === null);
}

/** The decisions of the rungs on a variant, or that it waits: `went on at 10, stopped at 20`. Empty before the first. */
export function rungText(sweep: Halved, one: SweepVariant): string {
  const { rungs } = sweep;
  const last = rungs.findLast(({ kept }) => kept.includes(one.variant));
  const stopped = rungs.find((rung) => rung.stopped.includes(one.variant));
  const waits = waitsAtStep(sweep, one);
  return [
    last === undefined ? '' : `went on at ${last.step}`,
    stopped === undefined ? '' : `stopped at ${stopped.step}`,
    waits === null ? '' : `waits at ${waits}`,
  ]
    .filter((text) => text !== '')
    .join(', ');
}

/** The variants, the best first: by their rank, by the rungs that let them through, by the metric so far, by their number. */
export function bestFirst({ variants, rungs, direction }: Pick<Sweep, 'variants' | 'rungs' | 'direction'>) {
  const sign = direction === 'min' ? 1 : -1;
  const passed = ({ variant }: SweepVariant) => rungs.filter(({ kept }) => kept.includes(variant)).length;
  const last = Number.POSITIVE_INFINITY;
  const metric = (one: SweepVariant) => (one.metric === null ? last : sign * one.metric);
  const compare = (one: number, other: number) => (one === other ? 0 : one - other);
  return variants.toSorted(
    (one, other) =>
      compare(one.rank ?? last, other.rank ?? last) ||
      passed(other) - passed(one) ||
      compare(metric(one), metric(other)) ||
      one.variant - other.variant,
  );
}
