import { JobRequest, mayVary, ProductError, type SweepValue } from '@lorasmith/contracts';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';

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
