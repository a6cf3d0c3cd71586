import type { TokenExamples } from './token-examples.js';

/** So many rows, evenly spread, represent the others where what all begin with is asked. */
const ROWS_COMPARED = 64;

/**
 * Tokens that all rows begin with, up to the first that predicts a label of one: those of a template, or of instructions that all have.
 * Rows may share more with some others; that is not known before.
 */
export function commonBeginning(examples: TokenExamples): number {
  const { ids: first } = examples.sequence(0);
  let common = first.length;
  for (let index = 0; index < examples.count && common > 0; index += Math.ceil(examples.count / ROWS_COMPARED)) {
    const { ids, trained } = examples.sequence(index);
    const label = trained.indexOf(1, 1);
    common = Math.min(common, label === -1 ? ids.length : label - 1);
    const other = ids.subarray(0, common).findIndex((id, token) => id !== first[token]);
    if (other !== -1) common = other;
  }
  return common;
}
