import { createHash } from 'node:crypto';
import { type JobRequest, JobSpec, type OwnDetails, objectiveContract, objectiveOf } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** The request with every default filled in and its fields in the order of the schema. */
export function jobSpecOf({ metadata = {}, tags: _tags, note: _note, ...request }: JobRequest): JobSpec {
  const { validation = {}, lora = {} } = request;
  const { objective, training } = withObjective(request);
  const given = { ...request, validation, lora, ...objective, training };
  const filled = Value.Default(JobSpec, structuredClone(given)) as JobSpec;
  // metadata has no nested defaults, and `Default` would count its keys in UTF-16 units instead of characters.
  return Value.Parse(JobSpec, { ...filled, metadata });
}

/** The tags and the note of a request: they are in the job's record, and no part of its spec. */
export function detailsOf({ tags = [], note = null }: JobRequest): OwnDetails {
  return { tags, note };
}

/** The defaults that depend on the objective. */
function withObjective({ objective, training = {} }: Omit<JobRequest, 'metadata'>) {
  if (objective === undefined) return { training };
  return {
    objective: { objective: objectiveOf(objective) },
    training: { ...objectiveContract(objective.kind).training, ...training },
  };
}

/**
 * A digest that is the same for requests with the same meaning: a missing field counts as its default, and the order of
 * fields does not matter. With `init_from` the defaults come from the adapter, which may have been deleted, so the request
 * is hashed as it is.
 */
export function requestHash(request: JobRequest): string {
  const { tags, note } = detailsOf(request);
  const details = { ...(tags.length === 0 ? {} : { tags }), ...(note === null ? {} : { note }) };
  return digestOf(request.lora?.init_from ? request : { ...jobSpecOf(request), ...details });
}

/** The sha256 of JSON, whatever the order of its fields. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    return Object.fromEntries(Object.entries(node).sort(([one], [other]) => (one < other ? -1 : 1)));
  });
}
