import { createHash } from 'node:crypto';
import { type JobRequest, JobSpec } from '@lorasmith/contracts';
import { Value } from 'typebox/value';

/** The request with every default filled in, its fields in the order of the schema. */
export function jobSpecOf({ metadata = {}, ...request }: JobRequest): JobSpec {
  const { validation = {}, lora = {}, training = {} } = request;
  const filled = Value.Default(JobSpec, structuredClone({ ...request, validation, lora, training })) as JobSpec;
  // It has no defaults within, and `Default` counts its keys in UTF-16 units where every check counts characters.
  return Value.Parse(JobSpec, { ...filled, metadata });
}

/**
 * The same for requests with the same meaning: a field that is left out counts as its default, and order does not count.
 * With `init_from` the defaults are the adapter's, which may have been deleted, so the request counts as it is.
 */
export function requestHash(request: JobRequest): string {
  const meant = request.lora?.init_from ? request : jobSpecOf(request);
  return createHash('sha256').update(canonicalJson(meant)).digest('hex');
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    return Object.fromEntries(Object.entries(node).sort(([one], [other]) => (one < other ? -1 : 1)));
  });
}
