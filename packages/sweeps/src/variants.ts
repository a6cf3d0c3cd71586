import {
  DEFAULT_RANGE_COUNT,
  DEFAULT_SWEEP_SEED,
  JobRequest,
  MAX_VARIANTS,
  mayVary,
  objectiveContract,
  ProductError,
  type SweepCondition,
  type SweepField,
  type SweepRange,
  type SweepRequest,
  type SweepValue,
  type VariantValues,
} from '@lorasmith/contracts';
import { SeededRandom } from '@lorasmith/seeded-random';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';

/** One job of a sweep. */
export interface Variant {
  /** The number of the variant, from 1. */
  variant: number;
  values: VariantValues;
  job: JobRequest;
}

/** Combinations of a grid before exclusions. */
const MAX_COMBINATIONS = 4096;
/** Draws for one variant of a random search until it differs from the others and is not excluded. */
const MAX_DRAWS = 100;
/** Digits of values within a range: enough, and readable. */
const SIGNIFICANT_DIGITS = 6;

/** Fields that change how many tokens a step reads. */
const TOKENS_OF_STEP = ['training.batch_size', 'training.gradient_accumulation_steps', 'training.seed'];

/** A field of the space. */
interface Dimension extends JobField {
  param: string;
  asked: { values: SweepValue[] } | { range: SweepRange };
}

/**
 * The variants of a sweep: those of a grid in the order of the fields, the last one fastest; those of a random search in the order
 * in which they are drawn.
 *
 * @throws ProductError `invalid_sweep` with the field that is at fault
 */
export function variantsOf(request: SweepRequest): Variant[] {
  const { job, space, exclude = [], search = 'grid' } = request;
  checkSearch(request);
  const dimensions = Object.entries(space).map(([path, field]) => dimensionOf(path, field, search));
  checkTogether(request, dimensions);
  for (const [index, conditions] of exclude.entries()) checkExclusion(index, conditions, dimensions);
  const isExcluded = (values: VariantValues) => exclude.some((conditions) => meetsAll(values, conditions));
  const found =
    search === 'grid'
      ? gridOf(dimensions, isExcluded)
      : drawnFrom(dimensions, isExcluded, request as { variants: number });
  if (found.length === 0) {
    throw new ProductError('invalid_sweep', 'The exclusions leave no variant.', { param: 'exclude' });
  }
  if (found.length > MAX_VARIANTS) {
    const message = `The space has ${found.length} variants, and a sweep has at most ${MAX_VARIANTS}. Try fewer values, exclude some, or draw some with search random.`;
    throw new ProductError('invalid_sweep', message, { param: 'space' });
  }
  return found.map((values, index) => ({ variant: index + 1, values, job: jobOf(job, index + 1, dimensions, values) }));
}

function jobOf(template: JobRequest, variant: number, dimensions: Dimension[], values: VariantValues): JobRequest {
  let job = template;
  for (const dimension of dimensions) job = withValue(job, dimension, values[dimension.path]!);
  checkJob(job, dimensions);
  if (job.name == null) return job;
  const ending = ` #${variant}`;
  return { ...job, name: `${[...job.name].slice(0, 128 - ending.length).join('')}${ending}` };
}

/** @throws ProductError `invalid_sweep` where the template lacks what a field needs beside it, as early stopping needs its patience */
function checkJob(job: JobRequest, dimensions: Dimension[]): void {
  const [fault] = Value.Errors(JobRequest, job);
  if (fault === undefined) return;
  const group = fault.instancePath.slice(1).replaceAll('/', '.');
  const { path, param } = dimensions.find((dimension) => dimension.path.startsWith(`${group}.`)) ?? dimensions[0]!;
  const message = `With ${path} the job is not valid: ${group} ${fault.message}. Set the rest in job.`;
  throw new ProductError('invalid_sweep', message, { param });
}

function checkSearch({ search = 'grid', variants, seed }: SweepRequest): void {
  if (search === 'random' && variants === undefined) {
    const message = 'A random search needs variants: how many are drawn.';
    throw new ProductError('invalid_sweep', message, { param: 'variants' });
  }
  const unused =
    search === 'grid' ? Object.entries({ variants, seed }).find(([, value]) => value !== undefined) : undefined;
  if (unused === undefined) return;
  const message = `A grid has every combination, so it has no ${unused[0]}. Leave it out, or set search to random.`;
  throw new ProductError('invalid_sweep', message, { param: unused[0] });
}

function dimensionOf(path: string, field: SweepField, search: 'grid' | 'random'): Dimension {
  const param = `space.${path}`;
  const refused = (message: string) => new ProductError('invalid_sweep', message, { param });
  const known = jobFieldOf(path, param);
  const { values, range } = field;
  if ((values === undefined) === (range === undefined)) {
    throw refused(`${path} needs either values or a range.`);
  }
  if (values !== undefined) {
    for (const [index, value] of values.entries()) {
      checkValue(known, value, param);
      if (values.findIndex((other) => sameValue(value, other)) < index) {
        throw refused(`${path} has the value ${JSON.stringify(value)} twice.`);
      }
    }
    return { ...known, param, asked: { values } };
  }
  const { from, to, scale = 'linear', count } = range!;
  if (from >= to) throw refused(`The range of ${path} ends where it begins, or before. from must be less than to.`);
  if (scale === 'log' && from <= 0) throw refused(`A log range of ${path} begins above 0.`);
  if (search === 'random' && count !== undefined) {
    throw refused(`${path}: a random search draws from the whole range, so it has no count. Leave it out.`);
  }
  for (const end of [from, to]) checkValue(known, end, param);
  const ends = { ...known, param, asked: { range: range! } };
  return search === 'random' ? ends : { ...ends, asked: { values: spread(ends, range!) } };
}

/** @throws ProductError `invalid_sweep` for fields that contradict each other */
function checkTogether({ job, metric = 'loss', halving }: SweepRequest, dimensions: Dimension[]): void {
  const refused = (param: string, message: string) => new ProductError('invalid_sweep', message, { param });
  const paths = dimensions.map(({ path }) => path);
  const outer = paths.find((path) => paths.some((other) => other.startsWith(`${path}.`)));
  if (outer !== undefined) {
    const inner = paths.find((path) => path.startsWith(`${outer}.`));
    const message = `${outer} and ${inner} exclude each other: one is a part of the other.`;
    throw refused(`space.${outer}`, message);
  }
  if (paths.includes('training.epochs') && paths.includes('training.max_steps')) {
    const message =
      'training.epochs and training.max_steps exclude each other: training.max_steps overrides training.epochs.';
    throw refused('space.training.epochs', message);
  }
  const uneven = halving === undefined ? undefined : paths.find((path) => TOKENS_OF_STEP.includes(path));
  if (uneven !== undefined) {
    const message = `${uneven} changes the tokens of a step, and halving compares variants after equal tokens. Leave one of them out.`;
    throw refused(`space.${uneven}`, message);
  }
  if (paths.includes('training.seed') && (job.validation?.dataset ?? null) === null) {
    const message =
      'training.seed also chooses the held-out rows, so variants would be measured on different ones. Name a job.validation.dataset, or leave the seed out.';
    throw refused('space.training.seed', message);
  }
  const ofObjective = paths.find((path) => path.startsWith('objective.'));
  if (ofObjective !== undefined) {
    if (job.objective === undefined) {
      const message = `${ofObjective} belongs to an objective, and the job has none.`;
      throw refused(`space.${ofObjective}`, message);
    }
    if (objectiveContract(job.objective.kind).changesLoss && metric === 'loss') {
      const message = `${ofObjective} changes what the loss measures. Set metric to accuracy: the share of pairs whose chosen answer is the more likely one.`;
      throw refused('metric', message);
    }
  }
  if (paths.includes('training.epochs') && (job.training?.max_steps ?? null) !== null) {
    const message = 'training.epochs has no effect, since job.training.max_steps overrides it. Leave one out.';
    throw refused('space.training.epochs', message);
  }
}

function checkExclusion(index: number, conditions: Record<string, SweepCondition>, dimensions: Dimension[]): void {
  for (const [path, { values, from, to }] of Object.entries(conditions)) {
    const param = `exclude.${index}.${path}`;
    if (dimensions.every((dimension) => dimension.path !== path)) {
      throw new ProductError('invalid_sweep', `${JSON.stringify(path.slice(0, 100))} is no field of the space.`, {
        param,
      });
    }
    if ((values === undefined) === (from === undefined && to === undefined)) {
      const message = `The condition on ${path} needs either values, or from and to, or one of these.`;
      throw new ProductError('invalid_sweep', message, { param });
    }
  }
}

function meetsAll(values: VariantValues, conditions: Record<string, SweepCondition>): boolean {
  return Object.entries(conditions).every(([path, condition]) => meets(values[path]!, condition));
}

function meets(value: SweepValue, { values, from, to }: SweepCondition): boolean {
  if (values !== undefined) return values.some((one) => sameValue(one, value));
  return typeof value === 'number' && (from === undefined || value >= from) && (to === undefined || value <= to);
}

/** Values of a range at even distances, with both ends; of an integer each once. */
function spread(field: JobField, range: SweepRange): number[] {
  const { count = DEFAULT_RANGE_COUNT } = range;
  const values = Array.from({ length: count }, (_, i) => valueAt(field, range, i / (count - 1)));
  return [...new Set(values)];
}

/** @param share - 0 for the beginning of the range, 1 for its end */
function valueAt({ isInteger }: JobField, { from, to, scale }: SweepRange, share: number): number {
  if (share === 0) return from;
  if (share === 1) return to;
  const exact = scale === 'log' ? from * (to / from) ** share : from + (to - from) * share;
  return isInteger ? Math.round(exact) : Number(exact.toPrecision(SIGNIFICANT_DIGITS));
}

function gridOf(dimensions: Dimension[], isExcluded: (values: VariantValues) => boolean): VariantValues[] {
  let combinations: VariantValues[] = [{}];
  for (const { path, asked } of dimensions) {
    const { values } = asked as { values: SweepValue[] };
    if (combinations.length * values.length > MAX_COMBINATIONS) {
      const message = `The grid has more than ${MAX_COMBINATIONS} combinations. Try fewer values, or draw some with search random.`;
      throw new ProductError('invalid_sweep', message, { param: 'space' });
    }
    combinations = combinations.flatMap((before) => values.map((value) => ({ ...before, [path]: value })));
  }
  return combinations.filter((values) => !isExcluded(values));
}

function drawnFrom(
  dimensions: Dimension[],
  isExcluded: (values: VariantValues) => boolean,
  { variants, seed = DEFAULT_SWEEP_SEED }: { variants: number; seed?: number },
): VariantValues[] {
  const random = new SeededRandom(seed, 'variants of a sweep');
  const draw = (dimension: Dimension): SweepValue => {
    const { asked } = dimension;
    const share = random.next();
    return 'values' in asked
      ? asked.values[Math.floor(share * asked.values.length)]!
      : valueAt(dimension, asked.range, share);
  };
  const drawn = new Map<string, VariantValues>();
  for (let draws = 0; drawn.size < variants; draws++) {
    if (draws === variants * MAX_DRAWS) {
      const message = `Of ${variants} different variants only ${drawn.size} were found. The space has too few combinations, or too many are excluded.`;
      throw new ProductError('invalid_sweep', message, { param: 'variants' });
    }
    const values = Object.fromEntries(dimensions.map((dimension) => [dimension.path, draw(dimension)]));
    if (!isExcluded(values)) drawn.set(valuesText(values), values);
  }
  return [...drawn.values()];
}

/** A field of a job that differs between variants. */
export interface JobField {
  /** The path, for example `training.learning_rate`. */
  path: string;
  names: string[];
  isInteger: boolean;
  schema: TSchema;
}

/** The parts of a schema that lead to a field. */
interface SchemaPart {
  type?: string;
  properties?: Record<string, SchemaPart>;
  anyOf?: SchemaPart[];
}

/** @throws ProductError `invalid_sweep` for a path that is no field, or one that all variants must have in common */
export function jobFieldOf(path: string, param: string): JobField {
  const names = path.split('.');
  const refused = (message: string) => new ProductError('invalid_sweep', message, { param });
  if (!mayVary(path)) {
    const message = `${shown(path)} cannot differ between variants: they have model, rows, tokens, the adapter to start from and what is measured in common. Other fields of lora, training and objective can, such as lora.r.`;
    throw refused(message);
  }
  let part: SchemaPart | undefined = JobRequest as unknown as SchemaPart;
  for (const name of names) {
    const owner: SchemaPart | undefined = alternativesOf(part).find(
      ({ properties }) => properties !== undefined && Object.hasOwn(properties, name),
    );
    part = owner?.properties?.[name];
    if (part === undefined) throw refused(`${shown(path)} is no field of a job.`);
  }
  const types = alternativesOf(part).map(({ type }) => type);
  if (names.length === 1) throw refused(`${shown(path)} is a group of fields. Name one of them, such as lora.r.`);
  const isInteger = types.includes('integer') && !types.includes('number');
  return { path, names, isInteger, schema: part as unknown as TSchema };
}

/** The job with this value of the field. */
export function withValue(job: JobRequest, { names }: JobField, value: SweepValue): JobRequest {
  const changed = structuredClone(job);
  let part = changed as Record<string, unknown>;
  for (const name of names.slice(0, -1)) {
    const inner = part[name];
    part[name] = typeof inner === 'object' && inner !== null ? inner : {};
    part = part[name] as Record<string, unknown>;
  }
  part[names.at(-1)!] = value;
  return changed;
}

/** @throws ProductError `invalid_sweep` for a value that the field cannot have */
export function checkValue({ path, schema }: JobField, value: SweepValue, param: string): void {
  const [fault] = Value.Errors(schema, value);
  if (fault === undefined) return;
  throw new ProductError('invalid_sweep', `${path} cannot be ${shown(value)}: it ${fault.message}.`, { param });
}

function alternativesOf(part: SchemaPart | undefined): SchemaPart[] {
  return part === undefined ? [] : [part, ...(part.anyOf ?? [])];
}

/** The text of the sender, shortened for a message. */
function shown(value: SweepValue): string {
  const text = JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** True for two values of a field that are the same. Lists are, if they have the same names in the same order. */
export function sameValue(one: SweepValue, other: SweepValue): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** The values as a reader of a message knows them: `lora.r 8, training.learning_rate 0.001`. */
export function valuesText(values: VariantValues): string {
  return Object.entries(values)
    .map(([path, value]) => `${path} ${JSON.stringify(value)}`)
    .join(', ');
}
