import { type FittedRow, LengthLimit } from '../next-token/length-limit.js';
import { trainedOf } from '../next-token/token-examples.js';
import { lengthOfFirst, pairOfCodes } from './pair-examples.js';

/** How many tokens each sequence of a pair may have. Both are cut alike; a pair of which one has nothing to train left is dropped. */
export class PairLimit extends LengthLimit {
  protected override readonly outcomes = 'drop or truncate';

  override fit(codes: Int32Array): FittedRow {
    const dropped: FittedRow = { outcome: 'dropped', pieces: [], leftOut: [] };
    if (this.onOverflow !== 'truncate') return dropped;
    const middle = lengthOfFirst(codes);
    const start = Math.max(0, middle - this.maxTokens);
    const end = Math.min(codes.length, middle + this.maxTokens);
    const { chosen, rejected } = pairOfCodes(codes.subarray(start, end));
    const [ofChosen, ofRejected] = [chosen, rejected].map(trainedOf) as [number, number];
    if (ofChosen === 0 || ofRejected === 0) return dropped;
    const piece = { start, tokens: end - start, trained: ofChosen + ofRejected };
    return { outcome: 'truncated', pieces: [piece], leftOut: [] };
  }
}
