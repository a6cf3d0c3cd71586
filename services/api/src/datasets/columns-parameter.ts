import { MAX_MAPPING_CHARACTERS } from '@lorasmith/row-files';
import { Type } from 'typebox';

/** The parameter `columns` of an upload. */
export const ColumnsParameter = Type.String({
  maxLength: MAX_MAPPING_CHARACTERS,
  description:
    'The columns of the file that rows have: COLUMN:NAME IN THE FILE, separated by commas. All others are left out. Without it, rows ' +
    'have the columns whose names are those of a row.',
  examples: ['prompt:question,completion:answer'],
});
