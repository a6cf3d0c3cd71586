import { type ColumnMapping, MAX_MAPPING_CHARACTERS, parseColumnMapping } from '@lorasmith/row-files';
import { Type } from 'typebox';

/** The parameter `columns` of an upload. */
export const ColumnsParameter = Type.String({
  maxLength: MAX_MAPPING_CHARACTERS,
  description:
    'The columns of the file that rows have: COLUMN:NAME IN THE FILE, separated by commas. All others are left out. Without it, rows ' +
    'have the columns whose names are those of a row.',
  examples: ['prompt:question,completion:answer'],
});

/** The mapping of a query; undefined without one. @throws ProductError `invalid_request` */
export function columnsOf(query: { columns?: string }): ColumnMapping | undefined {
  return query.columns === undefined ? undefined : parseColumnMapping(query.columns);
}
