import { type Static, type TSchema, Type } from 'typebox';
import { detailsFilters, searchFilter } from './details.js';
import { JobStatus, LoraSettings, TrainingSettings, ValidationSettings } from './job.js';
import { orderParameters, PageQuery } from './page.js';
import { closed, DatasetId, ModelName, SweepId } from './schema-parts.js';

const GROUPS = { lora: LoraSettings, training: TrainingSettings, validation: ValidationSettings };

/** The settings of a job that are one number, word or choice each, such as `training.learning_rate`: lists are sorted by them. */
export const JOB_SETTING_PATHS: readonly string[] = Object.entries(GROUPS).flatMap(([group, { properties }]) =>
  Object.entries(properties)
    .filter(([, schema]) => isScalar(schema))
    .map(([name]) => `${group}.${name}`),
);

/** The values that a list of jobs is sorted by, besides settings. */
export const JOB_SORTS = ['created_at', 'time', 'name', 'status', 'progress', 'base_model', 'duration'] as const;

/** Query of `GET /jobs`. A job must match all filters. */
export const JobQuery = Type.Object(
  {
    ...PageQuery.properties,
    status: Type.Optional(JobStatus),
    q: searchFilter('their name, id, base model, dataset or tags'),
    ...detailsFilters,
    base_model: Type.Optional(ModelName),
    dataset: Type.Optional(DatasetId),
    sweep: Type.Optional(SweepId),
    collapse: Type.Optional(
      Type.Enum(['sweep'], {
        description: 'Of the jobs of each sweep, only the first in the order is listed and counted.',
      }),
    ),
    ...orderParameters(
      [...JOB_SORTS, ...JOB_SETTING_PATHS],
      'What the jobs are sorted by. time: when a job ended, and before that when it was created. duration: from its start to ' +
        'its end. Jobs without a value come last, and of equal ones the newest first.',
    ),
  },
  closed,
);
export type JobQuery = Static<typeof JobQuery>;

/** True for a setting that is neither a list nor a record. */
function isScalar(schema: TSchema): boolean {
  const { type, enum: choices, anyOf } = schema as { type?: string; enum?: unknown[]; anyOf?: TSchema[] };
  if (anyOf !== undefined) return anyOf.every(isScalar);
  return choices !== undefined || ['integer', 'number', 'boolean', 'string', 'null'].includes(type ?? '');
}
