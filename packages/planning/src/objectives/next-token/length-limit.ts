import type { TrainingSettings } from '@lorasmith/contracts';
import type { CodedFault } from '../../fault-list.js';
import { isTrainedCode } from './token-examples.js';

/** The settings of a job for rows that are too long. */
export type LengthSettings = Pick<TrainingSettings, 'max_seq_length' | 'on_overflow'>;

/** The pieces that are left of a row that is too long. */
export interface FittedRow {
  outcome: 'dropped' | 'truncated' | 'split';
  pieces: RowPiece[];
  /** Pieces of a split row without a trained token. */
  leftOut: RowPiece[];
}

/** Consecutive tokens of a row. */
export interface RowPiece {
  /** Index within the row. */
  start: number;
  tokens: number;
  /** Targets of the loss; the first token is none, since nothing predicts it. */
  trained: number;
}

/** How many tokens a sequence may have, and what becomes of a row that has more. */
export class LengthLimit {
  readonly maxTokens: number;
  /** The values of `on_overflow` that are no fault, in words. */
  protected readonly outcomes: string = 'drop, truncate or split';
  readonly #maxPositions: number;
  protected readonly onOverflow: TrainingSettings['on_overflow'];

  /**
   * @param limits `maxLength`: as the job sets it; `maxPositions`: as the model allows it
   */
  constructor(limits: { maxLength: number; maxPositions: number; onOverflow: TrainingSettings['on_overflow'] }) {
    this.maxTokens = Math.min(limits.maxLength, limits.maxPositions);
    this.#maxPositions = limits.maxPositions;
    this.onOverflow = limits.onOverflow;
  }

  /** The fault of a row that is too long, with `on_overflow: error`; null for any other row. */
  faultOf(tokens: number): CodedFault | null {
    if (this.onOverflow !== 'error' || tokens <= this.maxTokens) return null;
    const overflow = `set training.on_overflow to ${this.outcomes}`;
    const fits = tokens <= this.#maxPositions;
    const advice = fits
      ? `Raise training.max_seq_length, or ${overflow}.`
      : `The model has ${this.#maxPositions} positions: shorten the row, or ${overflow}.`;
    return {
      code: 'row_too_long',
      message: `The row has ${tokens} tokens; the limit is ${this.maxTokens}. ${advice}`,
      param: fits ? 'training.max_seq_length' : 'training.on_overflow',
      tokens,
    };
  }

  /**
   * Fits a row that is too long. Every piece has a trained token: `truncate` drops the row when all its trained tokens are
   * beyond the cut, `split` leaves out pieces without any.
   *
   * @param codes `[tokens]` of the row
   */
  fit(codes: Int32Array): FittedRow {
    switch (this.onOverflow) {
      case 'error':
        throw new Error('a row that is too long is a fault');
      case 'drop':
        return DROPPED;
      case 'truncate': {
        const piece = pieceOf(codes, 0, this.maxTokens);
        return piece.trained > 0 ? { outcome: 'truncated', pieces: [piece], leftOut: [] } : DROPPED;
      }
      case 'split': {
        const pieces: RowPiece[] = [];
        const leftOut: RowPiece[] = [];
        for (let start = 0; start < codes.length; start += this.maxTokens) {
          const piece = pieceOf(codes, start, Math.min(start + this.maxTokens, codes.length));
          (piece.trained > 0 ? pieces : leftOut).push(piece);
        }
        return pieces.length > 0 ? { outcome: 'split', pieces, leftOut } : DROPPED;
      }
    }
  }
}

const DROPPED: FittedRow = { outcome: 'dropped', pieces: [], leftOut: [] };

function pieceOf(codes: Int32Array, start: number, end: number): RowPiece {
  let trained = 0;
  for (let token = start + 1; token < end; token++) if (isTrainedCode(codes[token]!)) trained++;
  return { start, tokens: end - start, trained };
}
