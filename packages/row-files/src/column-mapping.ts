import { DATASET_FORMATS, DatasetRow, type Fault, memberTexts, ProductError } from '@lorasmith/contracts';

/** The column of the file for each column of a row. With a mapping, a row has these columns and no others. */
export type ColumnMapping = ReadonlyMap<string, string>;

/** The columns of a table that are read: those of a mapping, those that rows have, or all. */
export type ColumnChoice = ColumnMapping | 'of-rows' | 'all';

/** ShareGPT's columns, which become `messages`. */
const SHAREGPT_COLUMNS = ['conversations', 'system'];
const ROW_COLUMNS: ReadonlySet<string> = new Set([
  ...DATASET_FORMATS.flatMap((format) => Object.keys(DatasetRow[format].properties)),
  ...SHAREGPT_COLUMNS,
]);

/** True if rows may have a column with this name. */
export function isRowColumn(name: string): boolean {
  return ROW_COLUMNS.has(name);
}

/** Columns that rows are refused for, with what to send instead. */
const REFUSED_COLUMNS = ['kto_tag'];

const PARAM = 'columns';
/** The longest mapping as text: with each character as `%XX%XX%XX`, an address still fits into the 16 KiB of a request's headers. */
export const MAX_MAPPING_CHARACTERS = 1_000;
/** Columns that a message names. */
const MAX_NAMED = 20;
const MAX_NAME_CHARACTERS = 64;
/** The start of a pair: the names of files may have commas. */
const PAIR_START = /,(?=\w+(?::|,|$))/;

/**
 * Reads a mapping: `prompt:question,completion:answer`. A column with the same name in the file stands alone: `prompt,completion:answer`.
 * @throws ProductError `invalid_request` with `columns` as `param`
 */
export function parseColumnMapping(text: string): ColumnMapping {
  if (text.length > MAX_MAPPING_CHARACTERS) {
    throw wrongMapping(`A mapping has at most ${MAX_MAPPING_CHARACTERS} characters.`);
  }
  const mapping = new Map<string, string>();
  for (const pair of text.split(PAIR_START)) {
    const colon = pair.indexOf(':');
    const column = (colon < 0 ? pair : pair.slice(0, colon)).trim();
    const source = colon < 0 ? column : pair.slice(colon + 1);
    if (!ROW_COLUMNS.has(column)) {
      throw wrongMapping(`A row has no column ${quoted(column)}, but ${[...ROW_COLUMNS].join(', ')}.`);
    }
    if (mapping.has(column)) throw wrongMapping(`The column ${quoted(column)} is mapped twice.`);
    mapping.set(column, source);
  }
  return mapping;
}

function wrongMapping(what: string): ProductError {
  const message = `${what} Write a mapping as COLUMN:NAME IN THE FILE, such as prompt:question,completion:answer.`;
  return new ProductError('invalid_request', message, { param: PARAM });
}

/** A row with the columns of a mapping. */
export interface MappedColumns {
  row: Record<string, unknown>;
  /** The change in words; null if no column has another name. */
  mapping: string | null;
  /** Names of the columns that are not used. */
  leftOut: readonly string[];
}

/** Gives the columns of a row the names of the mapping. @returns the faults of a row that lacks one */
export function mapColumns(row: Record<string, unknown>, mapping: ColumnMapping): MappedColumns | Fault[] {
  const missing = [...mapping.values()].filter((name) => !Object.hasOwn(row, name));
  if (missing.length > 0) {
    return missing.map((name) => ({
      code: 'invalid_dataset',
      message: `The row has no column ${quoted(name)}, which the mapping names.`,
      param: name.slice(0, MAX_NAME_CHARACTERS),
    }));
  }
  const used = new Set(mapping.values());
  const renamed = [...mapping].filter(([column, name]) => column !== name);
  const changes = renamed.map(([column, name]) => `${quoted(name)} became ${quoted(column)}`);
  return {
    row: Object.fromEntries([...mapping].map(([column, name]) => [column, row[name]])),
    mapping: changes.length === 0 ? null : changes.join(', '),
    leftOut: Object.keys(row).filter((name) => !used.has(name)),
  };
}

/** The name in the file of a column of rows. */
export function sourceOf(choice: ColumnChoice, column: string): string {
  return (typeof choice === 'object' ? choice.get(column) : undefined) ?? column;
}

/**
 * The columns of a table that are read.
 * @param kind - The kind of file, for messages: CSV, Parquet
 * @throws ProductError `invalid_dataset` for a column of the mapping that is missing, and for a table without a column of a row
 */
export function columnsToRead(names: readonly string[], choice: ColumnChoice, kind: string): string[] {
  if (choice === 'all') return [...names];
  if (typeof choice === 'object') {
    const missing = [...choice.values()].find((name) => !names.includes(name));
    if (missing === undefined) return [...new Set(choice.values())];
    const what = `The ${kind} file has no column ${quoted(missing)}, which the mapping names. It has ${listed(names)}.`;
    throw new ProductError('invalid_dataset', `${what}`);
  }
  const known = names.filter((name) => ROW_COLUMNS.has(name) || REFUSED_COLUMNS.includes(name));
  if (known.length > 0) return known;
  const what = `The ${kind} file has the columns ${listed(names)}, none of which a row has.`;
  const advice = 'Say what they are, such as columns=prompt:NAME,completion:NAME or columns=text:NAME.';
  throw new ProductError('invalid_dataset', `${what} ${advice}`);
}

function listed(names: readonly string[]): string {
  const more = names.length > MAX_NAMED ? ' and others' : '';
  return `${names.slice(0, MAX_NAMED).map(quoted).join(', ')}${more}`;
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, MAX_NAME_CHARACTERS));
}

/**
 * The JSON of a mapped row. A column that keeps its value has the text of the line, because a parser changes numbers, which templates
 * print and graders compare answers with.
 *
 * @param row - The row with its new columns
 * @param line - The JSON of the row as it was
 * @param mapping - The names that columns of the row have in the line. @defaultValue their own
 */
export function mappedJson(row: object, line: string, mapping?: ColumnMapping): string {
  const texts = memberTexts(line);
  const members = Object.entries(row).map(([column, value]) => {
    const source = mapping === undefined ? column : mapping.get(column);
    const asWritten = source === undefined ? undefined : texts.get(source);
    return `${JSON.stringify(column)}:${asWritten ?? JSON.stringify(value)}`;
  });
  return `{${members.join(',')}}`;
}
