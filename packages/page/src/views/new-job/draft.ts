import { settingOf, sweepExclusionOf, sweepFieldOf, USUAL_SPLIT } from '@lorasmith/client/core';
import { type JobRequest, mayVary, RECIPES, type Recipe, type SweepRequest } from '@lorasmith/contracts';
import { tagsOfText } from '../../components/list-query.js';
import { fieldOfFault, type JobField, jobFields } from './job-fields.js';

/** The entries of the form: texts by the id of the field. A field that is missing or empty has its default. */
export type Draft = Readonly<Record<string, string>>;

/** The request of a draft. A text that does not fit its field is sent as it is: the service says what is wrong with it. */
export function requestOf(fields: readonly JobField[], draft: Draft): JobRequest {
  const request: Record<string, unknown> = {};
  for (const field of fields) {
    const text = draft[field.id] ?? '';
    if (text.trim() === '') continue;
    let object = request;
    for (const name of field.path.slice(0, -1)) {
      object[name] ??= {};
      object = object[name] as Record<string, unknown>;
    }
    object[field.path.at(-1)!] = valueFrom(field, text);
  }
  return request as JobRequest;
}

/** The draft that has this request, or job, as its result. Values that are the defaults are left out. */
export function draftOf(fields: readonly JobField[], request: object): Draft {
  const draft: Record<string, string> = {};
  for (const field of fields) {
    let value: unknown = request;
    for (const name of field.path) value = (value as Record<string, unknown> | null | undefined)?.[name];
    if (value === undefined || JSON.stringify(value) === JSON.stringify(field.preset)) continue;
    // A field that is in a nullable object has no default while the object is null.
    if (value === null && field.preset === undefined) continue;
    draft[field.id] = textOf(field, value);
  }
  return draft;
}

function valueFrom({ input, isNullable, acceptsText }: JobField, text: string): unknown {
  const trimmed = text.trim();
  if (isNullable && trimmed === 'null') return null;
  switch (input) {
    case 'number':
      return numberOf(trimmed);
    case 'flag':
      return trimmed === 'true';
    case 'list':
      return listOf(trimmed, acceptsText);
    case 'tags':
      return tagsOfText(text);
    case 'lines':
      return text
        .split('\n')
        .filter((line) => line.trim() !== '')
        .map((line) => (line.startsWith('[') ? jsonOf(line) : line));
    case 'json':
      return jsonOf(trimmed);
    default:
      return trimmed;
  }
}

function numberOf(text: string): number | string {
  return Number.isFinite(Number(text)) ? Number(text) : text;
}

/** `q_proj, v_proj` is a list; where text is allowed, too, other texts are sent as they are, and so is `all-linear`. */
function listOf(text: string, acceptsText: boolean): unknown {
  if (text.startsWith('[')) return jsonOf(text);
  if (acceptsText && (text === 'all-linear' || !/^[\w.]+(\s*,\s*[\w.]+)*,?$/.test(text))) return text;
  const items = text.split(',').flatMap((item) => item.trim() || []);
  return acceptsText ? items : items.map(numberOf);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function textOf({ input }: JobField, value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) {
    // An empty text would mean the default.
    if (input === 'tags') return value.join(', ');
    if (input === 'list' && value.length > 0 && value.every((item) => typeof item !== 'object'))
      return value.join(', ');
    if (input === 'lines') return value.map(lineOf).join('\n');
  }
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** A text of several lines is a conversation of one message, which means the same. */
function lineOf(item: unknown): string {
  if (typeof item === 'string' && !item.includes('\n') && !item.startsWith('[') && item.trim() !== '') return item;
  return JSON.stringify(typeof item === 'string' ? [{ role: 'user', content: item }] : item);
}

/** A recipe as entries of the form. Fields that it does not name are left as they are. */
export interface RecipeDraft extends Omit<Recipe, 'settings'> {
  /** An empty text is the default of the service. */
  fields: Draft;
}

/** All recipes. Each names the fields of all of them, so that it replaces any other. */
export const RECIPE_DRAFTS: readonly RecipeDraft[] = recipeDrafts(jobFields());

function recipeDrafts(fields: readonly JobField[]): RecipeDraft[] {
  const drafts = RECIPES.map(({ settings, ...recipe }) => ({ ...recipe, fields: draftOf(fields, settings) }));
  const empty = Object.fromEntries(drafts.flatMap((one) => Object.keys(one.fields).map((id) => [id, ''])));
  return drafts.map((one) => ({ ...one, fields: { ...empty, ...one.fields } }));
}

const SPLIT = 'validation.split';
/** The form before anything is changed in it: the standard recipe, without the fields that it leaves empty. */
export const FIRST_DRAFT: Draft = Object.fromEntries(
  Object.entries(RECIPE_DRAFTS.find(({ name }) => name === 'standard')!.fields).filter(([, text]) => text !== ''),
);

/** The recipe whose fields a draft has. */
export function recipeOf(draft: Draft): RecipeDraft | undefined {
  return RECIPE_DRAFTS.find(({ fields }) =>
    Object.entries(withoutTwoValidations({ ...draft, ...fields })).every(([id, text]) => (draft[id] ?? '') === text),
  );
}

/** The draft without the share of a recipe where a dataset to evaluate on is chosen: a job has one of them. */
export function withoutTwoValidations(draft: Draft): Draft {
  const isTwice = (draft['validation.dataset'] ?? '') !== '' && draft[SPLIT] === FIRST_DRAFT[SPLIT];
  return isTwice ? { ...draft, [SPLIT]: '' } : draft;
}

// The part of a draft that makes a sweep of it: texts by ids such as `sweep.space.lora.r`, `4, 8, 16`.

const SPACE = 'sweep.space.';
export const HALVING = 'sweep.halving.first_steps';
export const METRIC = 'sweep.metric';
/** The number of combinations that are drawn; all are tried without it. */
export const DRAWN = 'sweep.variants';
export const SEED = 'sweep.seed';
export const KEPT = 'sweep.publish_best';
/** Combinations to leave out, with semicolons between them. */
export const EXCLUDED = 'sweep.exclude';
/** The ids of the settings of a sweep, other than its space. */
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

/**
 * The request as a command of a shell. A key is not in it, only the name of its environment variable.
 * @param url - Where it is sent
 */
export function curlCommand(url: string, request: object, hasKey: boolean): string {
  return [
    `curl ${quoted(url)}`,
    ...(hasKey ? ['-H "authorization: Bearer $LORASMITH_API_KEY"'] : []),
    `-H 'content-type: application/json'`,
    `-d ${quoted(JSON.stringify(request))}`,
  ].join(' \\\n  ');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
