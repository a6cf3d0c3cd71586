import type { TrainingSettings } from '@lorasmith/contracts';
import type { EncodedRow } from './encode-segments.js';

export type FittedRow =
  | { outcome: 'kept' | 'truncated'; sequences: EncodedRow[] }
  /** `leftOut`: tokens of each piece that has no trained token. */
  | { outcome: 'split'; sequences: EncodedRow[]; leftOut: number[] }
  | { outcome: 'dropped' }
  /** With `on_overflow: error`. */
  | { outcome: 'too-long' };

/**
 * Fits a row into `maxLength` tokens as `on_overflow` says. Every sequence has a trained token: `truncate` drops the row when
 * all its trained tokens are beyond the cut, `split` drops pieces without any.
 *
 * @param row - Has at least one trained token.
 */
export function fitRow(row: EncodedRow, maxLength: number, onOverflow: TrainingSettings['on_overflow']): FittedRow {
  if (row.ids.length <= maxLength) return { outcome: 'kept', sequences: [row] };
  switch (onOverflow) {
    case 'error':
      return { outcome: 'too-long' };
    case 'drop':
      return { outcome: 'dropped' };
    case 'truncate': {
      const start = cut(row, 0, maxLength);
      return hasTrainedToken(start) ? { outcome: 'truncated', sequences: [start] } : { outcome: 'dropped' };
    }
    case 'split': {
      const sequences: EncodedRow[] = [];
      const leftOut: number[] = [];
      for (let start = 0; start < row.ids.length; start += maxLength) {
        const piece = cut(row, start, start + maxLength);
        if (hasTrainedToken(piece)) sequences.push(piece);
        else leftOut.push(piece.ids.length);
      }
      return sequences.length > 0 ? { outcome: 'split', sequences, leftOut } : { outcome: 'dropped' };
    }
  }
}

export function hasTrainedToken({ trained }: EncodedRow): boolean {
  return trained.includes(1);
}

function cut(row: EncodedRow, start: number, end: number): EncodedRow {
  const trained = row.trained.slice(start, end);
  trained[0] = 0;
  return { ids: row.ids.slice(start, end), trained };
}
