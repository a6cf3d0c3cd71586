import { memberTexts } from '@lorasmith/contracts';
import type { ColumnMapping } from './column-mapping.js';

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
