import { describe, expect, it } from 'vitest';
import { fitRow } from './fit-row.js';

/** Ids 0, 1, 2, …; `1` in the mask is trained. */
const row = (mask: string) => ({
  ids: Int32Array.from(mask, (_, index) => index),
  trained: Uint8Array.from(mask, Number),
});

describe('fitRow', () => {
  it.each(['error', 'drop', 'truncate', 'split'] as const)('with %s keeps a row that fits', (onOverflow) => {
    expect(fitRow(row('0111'), 4, onOverflow)).toEqual({ outcome: 'kept', sequences: [row('0111')] });
  });

  it('refuses or drops a row that does not', () => {
    expect(fitRow(row('01111'), 4, 'error')).toEqual({ outcome: 'too-long' });
    expect(fitRow(row('01111'), 4, 'drop')).toEqual({ outcome: 'dropped' });
  });

  it('truncates at the end, and drops what is left without a trained token', () => {
    expect(fitRow(row('001111'), 4, 'truncate')).toEqual({ outcome: 'truncated', sequences: [row('0011')] });
    expect(fitRow(row('000011'), 4, 'truncate')).toEqual({ outcome: 'dropped' });
  });

  it('splits into pieces whose first token is not trained, and counts those that have none', () => {
    const fitted = fitRow(row('0000' + '1111' + '0000' + '11'), 4, 'split');
    expect(fitted).toEqual({
      outcome: 'split',
      sequences: [
        { ids: Int32Array.of(4, 5, 6, 7), trained: Uint8Array.of(0, 1, 1, 1) },
        { ids: Int32Array.of(12, 13), trained: Uint8Array.of(0, 1) },
      ],
      leftOut: [4, 4],
    });
    // The one trained token becomes the first of its piece.
    expect(fitRow(row('00001'), 4, 'split')).toEqual({ outcome: 'dropped' });
  });
});
