import { type DatasetFormat, DatasetRow, listHint, rowHint, unionHint } from '@lorasmith/contracts';
import { type AnyRow, MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from './objectives/objective.js';
import { OBJECTIVES } from './objectives/objectives.js';

export type CheckedRow =
  | { format: DatasetFormat; row: AnyRow; faults: [] }
  | { format: DatasetFormat | null; row: null; faults: RowFault[] };

const FORMATS = [...new Set<RowFormat>(OBJECTIVES.flatMap(({ formats }) => formats))];

/**
 * Checks one parsed row of a dataset: the schema of its format, and what a schema cannot say (something to learn from,
 * text that is valid Unicode, numbers that float32 holds).
 *
 * @param row - What `JSON.parse` made of the line.
 * @returns The row with its format and no faults, or the faults (`invalid_dataset`, `unknown_field`,
 * `no_trained_tokens`) with `param` as the path within the row, for instance `messages.0.role`.
 */
export function checkRow(row: unknown): CheckedRow {
  const format = formatOf(row);
  if (format === null) {
    const advice = [columnsHint(row), rowHint(row) ?? `A row is an object with ${KNOWN_KEYS}.`];
    const message = `No known row format. ${advice.filter((one) => one !== null).join(' ')}`;
    return refuse(null, [{ code: 'invalid_dataset', message }]);
  }
  const isOfSchema = format.schema.Check(row);
  const faults = isOfSchema ? format.faults(row) : schemaFaults(format, row);
  if (!isOfSchema || faults.length > 0) return refuse(format.name, faults);
  return { format: format.name, row: row as AnyRow, faults: [] };
}

/**
 * The formats in the order in which their keys are looked for: those of objectives that a job names have a prompt, too. Messages with
 * answers next to them are trained as messages.
 */
const LOOKED_FOR = [
  ...new Set([
    ...FORMATS.filter(({ name }) => name === 'messages'),
    ...OBJECTIVES.flatMap(({ named, formats }) => (named === null ? [] : formats)),
    ...FORMATS,
  ]),
];

const KNOWN_KEYS = FORMATS.map(({ keys }) => keys).join('; ');

/** The format by the row's keys, whether or not the rest of the row is valid; null when no key is known. */
export function formatOf(row: unknown): RowFormat | null {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return null;
  const hasOneOf = (keys: readonly string[]) => keys.some((key) => Object.hasOwn(row, key));
  return (
    LOOKED_FOR.find(
      ({ tellingKeys, companionKeys = tellingKeys }) => hasOneOf(tellingKeys) && hasOneOf(companionKeys),
    ) ?? null
  );
}

const MAX_NAMED = 20;
const MAX_NAME_CHARACTERS = 64;

/** The advice of a CSV or Parquet file, too: its columns, and how they are mapped. Null for a row without a text that could be one. */
function columnsHint(row: unknown): string | null {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return null;
  if (!Object.values(row).some((value) => typeof value === 'string')) return null;
  const names = Object.keys(row);
  const listed = names.slice(0, MAX_NAMED).map((name) => JSON.stringify(name.slice(0, MAX_NAME_CHARACTERS)));
  const more = names.length > MAX_NAMED ? ' and others' : '';
  return (
    `The row has the columns ${listed.join(', ')}${more}, none of which a row has. ` +
    'Say what they are, such as columns=prompt:NAME,completion:NAME or columns=text:NAME.'
  );
}

function refuse(format: DatasetFormat | null, faults: RowFault[]): CheckedRow {
  return { format, row: null, faults: faults.slice(0, MAX_FAULTS_PER_ROW) };
}

function schemaFaults({ schema, keys, named }: RowFormat, row: unknown): RowFault[] {
  const known = named?.(row) ?? [];
  if (known.length > 0) return known;
  const faults: RowFault[] = [];
  const all = schema.Errors(row);
  const errors = withoutBranches(all);
  // Where a key is missing too, this may be it under another name.
  const advice = errors.some(({ keyword }) => keyword === 'required') ? '' : ' Leave it out.';
  for (const error of errors) {
    const path = pathOf(error.instancePath);
    const at = (key: string) => (path === '' ? key : `${path}.${key}`);
    if (error.keyword === 'boolean') continue; // repeats additionalProperties for each key
    if (error.keyword === 'additionalProperties') {
      for (const key of error.params.additionalProperties) {
        const allowed =
          path === '' ? `: this object has ${keys}` : MESSAGE.test(path) ? `: a message has ${MESSAGE_KEYS}` : '';
        const message = `Unknown key ${JSON.stringify(key.slice(0, 64))}${allowed}.${advice}`;
        faults.push({ code: 'unknown_field', message, param: at(key.slice(0, 64)) });
      }
    } else if (error.keyword === 'required') {
      for (const key of error.params.requiredProperties) {
        faults.push({ code: 'invalid_dataset', message: `The key "${key}" is missing.`, param: at(key) });
      }
    } else if (error.keyword === 'anyOf') {
      const key = path.slice(path.lastIndexOf('.') + 1);
      const form = unionHint(key) ?? 'has none of the allowed forms';
      faults.push({ code: 'invalid_dataset', message: `The value ${form}.`, param: path });
    } else {
      const allowed = error.keyword === 'enum' ? `: ${error.params.allowedValues.join(', ')}` : '';
      const hint = Array.isArray(valueAt(row, path)) ? listHint(path.slice(path.lastIndexOf('.') + 1)) : undefined;
      const message = `The value ${error.message}${allowed}.${hint === undefined ? '' : ` ${hint}`}`;
      faults.push({ code: 'invalid_dataset', message, param: path });
    }
  }
  return faults;
}

const MESSAGE = /^(messages|prompt|completion|chosen|rejected|input\.messages|(non_)?preferred_output)\.\d+$/;
const MESSAGE_KEYS = '"role", "content", "reasoning_content", "name", "tool_calls", "tool_call_id" and "weight"';

type SchemaErrors = ReturnType<RowFormat['schema']['Errors']>;

/**
 * Errors without those of branches of a union that are for other types. Of a union that has others, at the value or within it, these are
 * left; otherwise that of the union itself.
 */
function withoutBranches(all: SchemaErrors): SchemaErrors {
  const unions = all.filter(({ keyword }) => keyword === 'anyOf').map(({ instancePath }) => instancePath);
  const telling = all.filter(({ keyword, instancePath }) => {
    return keyword !== 'anyOf' && !(unions.includes(instancePath) && (keyword === 'type' || keyword === 'const'));
  });
  return all.filter((error) => {
    if (error.keyword !== 'anyOf') return telling.includes(error);
    const { instancePath: path } = error;
    return !telling.some((other) => other.instancePath === path || other.instancePath.startsWith(`${path}/`));
  });
}

function pathOf(instancePath: string): string {
  return instancePath.slice(1).replaceAll('/', '.');
}

/** Only for paths of schemas, whose keys have no dots. */
function valueAt(row: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], row);
}

export interface UsedColumns {
  row: unknown;
  /** Names of the columns that the row had and its format does not use. */
  leftOut: readonly string[];
}

/**
 * The row without the columns that its format does not use. A row stays as it is where a column of its format is missing,
 * which may be there under another name, and where one is refused by name.
 */
export function usedColumns(row: unknown): UsedColumns {
  const format = formatOf(row);
  if (format === null) return { row, leftOut: [] };
  const given = row as Record<string, unknown>;
  const { properties, required } = DatasetRow[format.name];
  const leftOut = Object.keys(given).filter((name) => !Object.hasOwn(properties, name));
  const isIncomplete = required.some((name) => !Object.hasOwn(given, name));
  if (leftOut.length === 0 || isIncomplete || (format.named?.(row) ?? []).length > 0) return { row, leftOut: [] };
  const used = Object.keys(properties).filter((name) => Object.hasOwn(given, name));
  return { row: Object.fromEntries(used.map((name) => [name, given[name]])), leftOut };
}
