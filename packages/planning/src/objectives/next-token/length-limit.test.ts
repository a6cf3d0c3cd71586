import { describe, expect, it } from 'vitest';
import { LengthLimit } from './length-limit.js';
import { codesOfSequence } from './token-examples.js';

/** Ids 0, 1, 2, …; `1` in the mask is trained. */
const codesOf = (mask: string) =>
  codesOfSequence({ ids: Int32Array.from(mask, (_, index) => index), trained: Uint8Array.from(mask, Number) });

function limitOf(onOverflow: 'error' | 'drop' | 'truncate' | 'split', maxPositions = 100) {
  return new LengthLimit({ maxLength: 4, maxPositions, onOverflow });
}

const dropped = { outcome: 'dropped', sequences: [], leftOut: [] };

describe('LengthLimit', () => {
  it('refuses or drops a row that is too long', () => {
    expect(limitOf('error').faultOf(4)).toBeNull();
    expect(limitOf('error').faultOf(5)).toMatchObject({
      code: 'row_too_long',
      message: expect.stringContaining('Raise'),
      param: 'training.max_seq_length',
      tokens: 5,
    });
    const shorten = expect.stringContaining('shorten the row');
    const param = 'training.on_overflow';
    expect(limitOf('error', 3).faultOf(5)).toMatchObject({ code: 'row_too_long', message: shorten, param });
    for (const other of ['drop', 'truncate', 'split'] as const) expect(limitOf(other).faultOf(5)).toBeNull();
    expect(limitOf('drop').fit(codesOf('01111'))).toEqual(dropped);
  });

  it('truncates at the end, and drops what is left without a trained token', () => {
    const sequences = [{ start: 0, tokens: 4, trained: 2 }];
    expect(limitOf('truncate').fit(codesOf('001111'))).toEqual({ outcome: 'truncated', sequences, leftOut: [] });
    expect(limitOf('truncate').fit(codesOf('000011'))).toEqual(dropped);
  });

  it('splits into pieces whose first token is not trained, and counts those that have none', () => {
    expect(limitOf('split').fit(codesOf('0000' + '1111' + '0000' + '11'))).toEqual({
      outcome: 'split',
      sequences: [
        { start: 4, tokens: 4, trained: 3 },
        { start: 12, tokens: 2, trained: 1 },
      ],
      leftOut: [
        { start: 0, tokens: 4, trained: 0 },
        { start: 8, tokens: 4, trained: 0 },
      ],
    });
    // The one trained token becomes the first of its piece.
    expect(limitOf('split').fit(codesOf('00001'))).toEqual(dropped);
  });
});
