import { type FittedRow, LengthLimit } from '../next-token/length-limit.js';

/** How many tokens a prompt may have, so that its answer has room. It is not cut: the end of a prompt is what is asked. */
export class PromptLimit extends LengthLimit {
  protected override readonly outcomes = 'drop';

  override fit(): FittedRow {
    return { outcome: 'dropped', pieces: [], leftOut: [] };
  }
}
