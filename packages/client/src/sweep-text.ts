import {
  ENDED_STATUSES,
  type Job,
  type Sweep,
  type SweepCondition,
  type SweepField,
  type SweepValue,
  type SweepVariant,
} from '@lorasmith/contracts';
import { settingOf } from './report-text.js';
import { countText } from './text-output.js';

/** The share of the rows that a sweep holds out unless its job says otherwise: variants are compared on them. */
export const USUAL_SPLIT = 0.1;

const RANGE = /^(.+?)\.\.(.+?)(?::(linear|log))?(?::(\d+))?$/;

/**
 * The values that a field is tried with, from a text: `4,8,16`, or a range such as `1e-4..3e-3:log` or `0..0.1:linear:5`. The server checks what the
 * field can be.
 */
export function sweepFieldOf(text: string): SweepField {
  const [, low = '', high = '', scale, count] = RANGE.exec(text) ?? [];
  const [from, to] = [settingOf(low), settingOf(high)];
  if (typeof from !== 'number' || typeof to !== 'number') return { values: valuesOf(text) };
  return {
    range: {
      from,
      to,
      ...(scale === undefined ? {} : { scale: scale as 'linear' | 'log' }),
      ...(count === undefined ? {} : { count: Number(count) }),
    },
  };
}

const OPEN_RANGE = /^(.*)\.\.(.*)$/;

/**
 * A combination of values to leave out, from a text: `lora.r=16 & training.learning_rate=1e-3..` means a rank of 16 with a rate of 1e-3 or more. A
 * condition has values or a range, of which one end may be missing. The server checks which fields there are.
 */
export function sweepExclusionOf(text: string): Record<string, SweepCondition> {
  return Object.fromEntries(
    text.split('&').map((condition) => {
      const [path = '', ...rest] = condition.split('=');
      return [path.trim(), sweepConditionOf(rest.join('=').trim())];
    }),
  );
}

function sweepConditionOf(text: string): SweepCondition {
  const ends = OPEN_RANGE.exec(text)
    ?.slice(1)
    .map((end) => (end.trim() === '' ? undefined : settingOf(end.trim())));
  const [from, to] = ends ?? [];
  const isRange = [from, to].every((end) => end === undefined || typeof end === 'number');
  if (!isRange || (from === undefined && to === undefined)) return { values: valuesOf(text) };
  return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) } as SweepCondition;
}

/** Values between commas: `4, 8`. With a list among them they are JSON: `"all-linear", ["q_proj", "v_proj"]`. */
function valuesOf(text: string): SweepValue[] {
  if (text.includes('[')) {
    try {
      return JSON.parse(`[${text}]`) as SweepValue[];
    } catch {
      // The server says that the texts are no values of the field.
    }
  }
  return text.split(',').map((value) => settingOf(value.trim()) as SweepValue);
}

/** The value of a variant as text. */
export function sweepValueText(value: SweepValue | undefined): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? null);
}

/** The state of a job or a variant in a word: what a rung has stopped was not cancelled by anybody. */
export function stateText({
  status,
  stopped_at_rung: rung,
}: Pick<Job | SweepVariant, 'status' | 'stopped_at_rung'>): string {
  return rung === undefined ? (status ?? 'deleted') : 'stopped at a rung';
}

/** The number of variants whose job has ended, or was deleted. */
export function endedVariants({ variants }: Pick<Sweep, 'variants'>): number {
  return variants.filter(({ status }) => status === null || ENDED_STATUSES.includes(status)).length;
}

/** The number of jobs that have ended, and what the others do: `3 of 8 have ended, 4 training (after steps 96 to 120 of 300), 1 waiting`. */
export function sweepProgressText({ variants }: Pick<Sweep, 'variants'>): string {
  const count = (...statuses: (string | null)[]) => variants.filter((one) => statuses.includes(one.status)).length;
  const parts = [
    [count('running', 'preparing'), `training${stepsText(variants)}`],
    [count('queued'), 'waiting'],
    [count('paused'), 'paused'],
  ] as const;
  const others = parts.filter(([number]) => number > 0).map(([number, what]) => `, ${number} ${what}`);
  return `${endedVariants({ variants })} of ${variants.length} have ended${others.join('')}`;
}

/** ` (after steps 96 to 120 of 300)`: how far those that train are; empty before their first step. */
function stepsText(variants: Sweep['variants']): string {
  const training = variants.flatMap(({ status, progress }) =>
    status === 'running' && progress !== null ? progress : [],
  );
  if (training.length === 0) return '';
  const steps = training.map(({ step }) => step);
  const [least, most] = [Math.min(...steps), Math.max(...steps)];
  const total = Math.max(...training.map(({ total_steps: all }) => all));
  const range = least === most ? `step ${countText(most)}` : `steps ${countText(least)} to ${countText(most)}`;
  return ` (after ${range} of ${countText(total)})`;
}
