import { DatasetRow } from '@lorasmith/contracts';
import { formatOf } from './dataset-row.js';

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
