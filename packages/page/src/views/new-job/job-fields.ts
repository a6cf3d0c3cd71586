import { AdapterId, DatasetId, JobRequest, ModelName, Note, patternOf, Tag } from '@lorasmith/contracts';
import { FIELD_LABELS } from './field-labels.js';

/** How a field is entered. */
export type FieldInputKind =
  | 'base-model'
  | 'dataset'
  | 'adapter'
  | 'choice'
  | 'flag'
  | 'number'
  | 'text'
  /** Values with commas between them. */
  | 'list'
  /** Words with commas between them. */
  | 'tags'
  /** A text of some lines. */
  | 'note'
  /** A text in each line, or JSON. */
  | 'lines'
  | 'json';

/** A field of a job, as its schema describes it: a new one is in the form without further code. */
export interface JobField {
  /** The name that faults have: `training.learning_rate`. */
  id: string;
  path: readonly string[];
  label: string;
  input: FieldInputKind;
  choices: readonly string[];
  /** Undefined: it has none. */
  preset: unknown;
  isNullable: boolean;
  isRequired: boolean;
  /** Whether a list may also be a text, such as a regular expression. */
  acceptsText: boolean;
  description: string | undefined;
}

/** The parts of JSON Schema that the schema of a job uses. */
interface FieldSchema {
  type?: string;
  anyOf?: FieldSchema[];
  enum?: unknown[];
  items?: FieldSchema;
  pattern?: string;
  properties?: Record<string, FieldSchema>;
  required?: string[];
  default?: unknown;
  description?: string;
}

/** Sections whose fields are known by their own names. */
const UNNAMED_SECTIONS: readonly string[] = ['lora', 'training'];

/** Schemas of ids: their description says nothing about the choice. */
const OF_IDS: ReadonlySet<unknown> = new Set(
  [ModelName, DatasetId, AdapterId].map((schema: FieldSchema) => schema.description),
);

const INPUTS_BY_PATTERN: ReadonlyMap<unknown, FieldInputKind> = new Map([
  [patternOf(ModelName), 'base-model'],
  [patternOf(DatasetId), 'dataset'],
  [patternOf(AdapterId), 'adapter'],
  [patternOf(Tag), 'tags'],
  [patternOf(Note), 'note'],
]);

/** Every field that a job request may have, in the order of the schema. Those of nested objects are fields of their own. */
export function jobFields(schema: object = JobRequest): JobField[] {
  return fieldsOf(schema as FieldSchema, []);
}

function fieldsOf(object: FieldSchema, path: readonly string[]): JobField[] {
  return Object.entries(object.properties ?? {}).flatMap(([name, schema]) => {
    const own = [...path, name];
    const { schemas, isNullable } = alternativesOf(schema);
    const [only] = schemas;
    if (schemas.length === 1 && only!.properties !== undefined) return fieldsOf(only!, own);
    const id = own.join('.');
    return [
      {
        id,
        path: own,
        label: FIELD_LABELS[id] ?? words(UNNAMED_SECTIONS.includes(own[0]!) ? own.slice(1) : own),
        input: inputOf(schemas),
        choices: (only?.enum ?? []).map(String),
        preset: schema.default ?? only?.default ?? (isNullable && 'default' in schema ? null : undefined),
        isNullable,
        isRequired: path.length === 0 && (object.required ?? []).includes(name),
        acceptsText: schemas.some(({ type }) => type === 'string'),
        description: descriptionOf([schema.description, only?.description]),
      },
    ];
  });
}

function alternativesOf(schema: FieldSchema): { schemas: FieldSchema[]; isNullable: boolean } {
  const all = schema.anyOf ?? [schema];
  const schemas = all.filter(({ type }) => type !== 'null');
  return { schemas, isNullable: schemas.length < all.length };
}

function inputOf(schemas: readonly FieldSchema[]): FieldInputKind {
  const list = schemas.find(({ type }) => type === 'array');
  if (list !== undefined) {
    const { type, pattern } = list.items ?? {};
    return INPUTS_BY_PATTERN.get(pattern) ?? (type === undefined || type === 'array' ? 'lines' : 'list');
  }
  const [only] = schemas;
  if (only === undefined || schemas.length > 1) return 'json';
  if (only.enum !== undefined) return 'choice';
  if (only.type === 'boolean') return 'flag';
  if (only.type === 'integer' || only.type === 'number') return 'number';
  if (only.type === 'string') return INPUTS_BY_PATTERN.get(only.pattern) ?? 'text';
  return 'json';
}

function descriptionOf(descriptions: readonly (string | undefined)[]): string | undefined {
  return descriptions.find((one) => one !== undefined && !OF_IDS.has(one));
}

/** `early_stopping`, `patience` → `Early stopping: patience` */
function words(names: readonly string[]): string {
  const text = names.map((name) => name.replaceAll('_', ' ')).join(': ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The field that a fault is about: the one whose value it lies in, or the first within the object that it is about. */
export function fieldOfFault(fields: readonly JobField[], param: string | undefined): JobField | undefined {
  if (param === undefined) return undefined;
  return (
    fields.find(({ id }) => param === id || param.startsWith(`${id}.`)) ??
    fields.find(({ id }) => id.startsWith(`${param}.`))
  );
}
