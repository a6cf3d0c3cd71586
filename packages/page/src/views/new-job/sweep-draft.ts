import { settingOf, sweepExclusionOf, sweepFieldOf, USUAL_SPLIT } from '@lorasmith/client/core';
import { type JobRequest, mayVary, type SweepRequest } from '@lorasmith/contracts';
import type { Draft } from './draft.js';
import { fieldOfFault, type JobField } from './job-fields.js';

// The part of a draft that makes a sweep of it: texts by ids such as `sweep.space.lora.r`, `4, 8, 16`.

const SPACE = 'sweep.space.';
export const HALVING = 'sweep.halving.first_steps';
export const METRIC = 'sweep.metric';
/** How many combinations are drawn; all are tried without it. */
export const DRAWN = 'sweep.variants';
export const SEED = 'sweep.seed';
export const KEPT = 'sweep.publish_best';
/** Combinations to leave out, with semicolons between them. */
export const EXCLUDED = 'sweep.exclude';
/** The ids of what a sweep has beside its space. */
export const SETTINGS = [METRIC, HALVING, DRAWN, SEED, EXCLUDED, KEPT];
/** Fields that are always there. */
const USUAL = ['training.learning_rate', 'lora.r'];

/** The id of the values that a field of the job is tried with. */
export function valuesId(path: string): string {
  return `${SPACE}${path}`;
}

/** The paths of the fields that have an input for several values: the usual ones, and those that were added. */
export function listedPaths(draft: Draft): string[] {
  const added = Object.keys(draft).flatMap((id) => (id.startsWith(SPACE) ? [id.slice(SPACE.length)] : []));
  return [...new Set([...USUAL, ...added])];
}

/** Fields that can be added: all but those whose value is an object, which no sweep varies as a whole. */
export function addableFields(fields: readonly JobField[], draft: Draft): JobField[] {
  const listed = listedPaths(draft);
  return fields.filter(({ id, input }) => mayVary(id) && !['json', 'lines'].includes(input) && !listed.includes(id));
}

/** The sweep of a draft; null if no field has several values. A text that does not fit is sent as it is: the service says what is wrong with it. */
export function sweepRequestOf(job: JobRequest, draft: Draft): SweepRequest | null {
  const textOf = (id: string) => (draft[id] ?? '').trim();
  const paths = listedPaths(draft).filter((path) => textOf(valuesId(path)) !== '');
  if (paths.length === 0) return null;
  const { split, dataset } = job.validation ?? {};
  const numberOf = (id: string) => settingOf(textOf(id)) as number;
  const excluded = textOf(EXCLUDED)
    .split(';')
    .filter((text) => text.trim() !== '');
  const isHeldOut = split !== undefined || (dataset ?? null) !== null;
  return {
    job: isHeldOut ? job : { ...job, validation: { ...job.validation, split: USUAL_SPLIT } },
    space: Object.fromEntries(paths.map((path) => [path, sweepFieldOf(textOf(valuesId(path)))])),
    ...(textOf(DRAWN) === '' ? {} : { search: 'random', variants: numberOf(DRAWN) }),
    ...(textOf(SEED) === '' ? {} : { seed: numberOf(SEED) }),
    ...(excluded.length === 0 ? {} : { exclude: excluded.map(sweepExclusionOf) }),
    ...(textOf(HALVING) === '' ? {} : { halving: { first_steps: numberOf(HALVING) } }),
    ...(textOf(KEPT) === '' ? {} : { publish_best: numberOf(KEPT) }),
    ...(textOf(METRIC) === '' ? {} : { metric: textOf(METRIC) as SweepRequest['metric'] }),
    ...(job.name == null ? {} : { name: job.name }),
  } as SweepRequest;
}

/** The id of the input that a fault of a job or a sweep is about. */
export function idOfFault(fields: readonly JobField[], draft: Draft, param: string | undefined): string | undefined {
  if (param === undefined) return undefined;
  const ids = [...listedPaths(draft).map(valuesId), ...SETTINGS];
  const wanted = `sweep.${param}`;
  const own = ids.find((id) => wanted === id || wanted.startsWith(`${id}.`));
  return own ?? fieldOfFault(fields, param.replace(/^job\./, ''))?.id;
}
