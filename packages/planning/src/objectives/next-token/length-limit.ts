import {
  type DatasetRowView,
  MAX_ROW_TOKENS,
  type RowToken,
  type RowTokens,
  type TrainingSettings,
} from '@lorasmith/contracts';
import { TextStream, type Tokenizer } from '@lorasmith/model-folder';
import type { CodedFault } from '../../fault-list.js';
import { isTrainedCode, sequenceOfCodes } from './token-examples.js';

/** The settings of a job for rows that are too long. */
export type LengthSettings = Pick<TrainingSettings, 'max_seq_length' | 'on_overflow'>;

/** The sequences that are left of a row that is too long. */
export interface FittedRow {
  outcome: 'dropped' | 'truncated' | 'split';
  sequences: RowSequence[];
  /** Sequences of a split row without a trained token. */
  leftOut: RowSequence[];
}

/** Consecutive tokens of a row. */
export interface RowSequence {
  /** Index within the row. */
  start: number;
  tokens: number;
  /** Targets of the loss; the first token is none, since nothing predicts it. */
  trained: number;
}

/** The limit of tokens of a sequence, and the result for a row that has more. */
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
   * Fits a row that is too long. Every sequence has a trained token: `truncate` drops the row when all its trained tokens are
   * beyond the cut, `split` leaves out sequences without any.
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
        const sequence = sequenceOf(codes, 0, this.maxTokens);
        return sequence.trained > 0 ? { outcome: 'truncated', sequences: [sequence], leftOut: [] } : DROPPED;
      }
      case 'split': {
        const sequences: RowSequence[] = [];
        const leftOut: RowSequence[] = [];
        for (let start = 0; start < codes.length; start += this.maxTokens) {
          const sequence = sequenceOf(codes, start, Math.min(start + this.maxTokens, codes.length));
          (sequence.trained > 0 ? sequences : leftOut).push(sequence);
        }
        return sequences.length > 0 ? { outcome: 'split', sequences, leftOut } : DROPPED;
      }
    }
  }
}

const DROPPED: FittedRow = { outcome: 'dropped', sequences: [], leftOut: [] };

function sequenceOf(codes: Int32Array, start: number, end: number): RowSequence {
  let trained = 0;
  for (let token = start + 1; token < end; token++) if (isTrainedCode(codes[token]!)) trained++;
  return { start, tokens: end - start, trained };
}

/** A row that is one sequence, as it is shown. @param codes of the whole row */
export function viewSequence(codes: Int32Array, limit: LengthLimit, tokenizer: Tokenizer): RowView {
  return { tokens: tokensOf(codes, fitted(codes, limit), tokenizer) };
}

/** The parts of a row that are left in the length that a job allows. */
export interface RowOutcome {
  outcome: RowTokens['outcome'];
  sequences: RowSequence[];
}

/** A sequence as tokens with their texts. @param codes `[tokens]` of the whole sequence */
export function tokensOf(codes: Int32Array, { outcome, sequences }: RowOutcome, tokenizer: Tokenizer): RowTokens {
  const { ids } = sequenceOfCodes(codes);
  const shown = [...ids.subarray(0, MAX_ROW_TOKENS)];
  const texts = textsOf(shown, tokenizer);
  const trained = trainedTokens(codes, sequences);
  const data = shown.map((id, token): RowToken => ({ id, text: texts[token]!, trained: trained[token] === 1 }));
  return {
    total: codes.length,
    trained: sequences.reduce((sum, sequence) => sum + sequence.trained, 0),
    outcome,
    sequences: sequences.map(({ start, tokens }) => ({ start, tokens })),
    data,
  };
}

/** The sequences of a row that is one sequence. */
export function fitted(codes: Int32Array, limit: LengthLimit): RowOutcome {
  if (codes.length <= limit.maxTokens) {
    const trained = codes.subarray(1).filter(isTrainedCode).length;
    return { outcome: 'complete', sequences: [{ start: 0, tokens: codes.length, trained }] };
  }
  return limit.faultOf(codes.length) === null ? limit.fit(codes) : { outcome: 'refused', sequences: [] };
}

/** `[tokens]`: 1 where a token is a target in one of the sequences. */
function trainedTokens(codes: Int32Array, sequences: readonly RowSequence[]): Uint8Array {
  const trained = new Uint8Array(codes.length);
  for (const { start, tokens } of sequences) {
    trained.set(sequenceOfCodes(codes.subarray(start, start + tokens)).trained, start);
  }
  return trained;
}

function textsOf(ids: readonly number[], tokenizer: Tokenizer): string[] {
  const stream = new TextStream(tokenizer, [], { skipSpecialTokens: false });
  const texts = ids.map((id) => stream.push(id));
  // Of a character that was cut.
  if (texts.length > 0) texts[texts.length - 1] += stream.end();
  return texts;
}

/** A row as tokens. */
export type RowView = Pick<DatasetRowView, 'tokens' | 'rejected_tokens' | 'label'>;
