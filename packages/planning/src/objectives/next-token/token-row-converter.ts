import type { Fault, TextualRow, TrainingSettings } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import type { RowCounts } from '../../example-file/example-summary.js';
import type { ExampleWriter } from '../../example-file/example-writer.js';
import type { CodedFault } from '../../fault-list.js';
import type { RowConverter } from '../objective.js';
import type { RowEncoder } from './encode-row.js';
import { fitRow, hasTrainedToken } from './fit-row.js';
import { wordsOfSequence } from './token-examples.js';
import { TypedSpecialTokens } from './typed-special-tokens.js';

export interface TokenRowSettings {
  encoder: RowEncoder;
  tokenizer: Tokenizer;
  /** Of the model: every token id is below it. */
  vocabSize: number;
  /** Most tokens of a sequence, as the job sets it. */
  maxLength: number;
  /** Most tokens of a sequence, as the model allows it. */
  maxPositions: number;
  onOverflow: TrainingSettings['on_overflow'];
}

/** Rows of text for a decoder. */
export class TokenRowConverter implements RowConverter<TextualRow> {
  readonly counts: RowCounts = { overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: 0 };
  readonly #settings: TokenRowSettings;
  readonly #writer: ExampleWriter;
  readonly #typedSpecialTokens: TypedSpecialTokens;
  readonly #incomplete = { rows: 0, firstLine: 0 };
  readonly #leftOut = { pieces: 0, tokens: 0, firstLine: 0 };

  constructor(settings: TokenRowSettings, writer: ExampleWriter) {
    this.#settings = settings;
    this.#writer = writer;
    this.#typedSpecialTokens = new TypedSpecialTokens(settings.tokenizer);
  }

  add(row: TextualRow, location: { line: number; row: number }): CodedFault[] {
    const { encoder, vocabSize, onOverflow } = this.#settings;
    const maxLength = Math.min(this.#settings.maxLength, this.#settings.maxPositions);
    const encoded = encoder.encode(row);
    this.#typedSpecialTokens.look(row, location.line);
    if (encoded.isIncomplete) {
      if (this.#incomplete.rows === 0) this.#incomplete.firstLine = location.line;
      this.#incomplete.rows++;
    }
    const outside = encoded.ids.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      const message = `The tokenizer gives the token ${outside} for this row, but the model has only ${vocabSize} tokens. Use the tokenizer that belongs to the model.`;
      return [{ code: 'model_file_corrupt', message }];
    }
    if (!hasTrainedToken(encoded)) {
      const message = 'No token of this row is trained: what should be trained is empty or is only the first token.';
      return [{ code: 'no_trained_tokens', message }];
    }
    const tokens = encoded.ids.length;
    this.counts.longest = Math.max(this.counts.longest, tokens);
    if (tokens > maxLength) this.counts.overflowed++;
    const fitted = fitRow(encoded, maxLength, onOverflow);
    switch (fitted.outcome) {
      case 'too-long': {
        const message = `The row has ${tokens} tokens; the limit is ${maxLength}. ${this.#adviceOnLength(tokens)}`;
        return [{ code: 'row_too_long', message }];
      }
      case 'dropped':
        this.counts.dropped++;
        return [];
      case 'truncated':
        this.counts.truncated++;
        break;
      case 'split':
        this.counts.split++;
        this.#countLeftOut(fitted.leftOut, location.line);
        break;
      case 'kept':
        break;
    }
    for (const sequence of fitted.sequences) {
      const trained = sequence.trained.reduce((sum, flag) => sum + flag, 0);
      this.#writer.add({ words: wordsOfSequence(sequence), trained, ...location });
    }
    return [];
  }

  #adviceOnLength(tokens: number): string {
    const overflow = 'set training.on_overflow to drop, truncate or split';
    if (tokens <= this.#settings.maxPositions) return `Raise training.max_seq_length, or ${overflow}.`;
    return `The model has ${this.#settings.maxPositions} positions: shorten the row, or ${overflow}.`;
  }

  #countLeftOut(pieces: readonly number[], line: number): void {
    if (pieces.length > 0 && this.#leftOut.pieces === 0) this.#leftOut.firstLine = line;
    this.#leftOut.pieces += pieces.length;
    this.#leftOut.tokens += pieces.reduce((sum, tokens) => sum + tokens, 0);
  }

  warnings(): Fault[] {
    return [...this.#typedSpecialTokens.warnings(), ...this.#incompleteRows(), ...this.#leftOutPieces()];
  }

  #incompleteRows(): Fault[] {
    const { rows, firstLine: line } = this.#incomplete;
    if (rows === 0) return [];
    const message =
      `${rows} rows have a message that the chat template of the base model does not render completely: it leaves out the ` +
      `reasoning of an answer, for instance. The first is line ${line}. The model is trained without that part.`;
    return [{ code: 'message_content_dropped', message, line }];
  }

  #leftOutPieces(): Fault[] {
    const { pieces, tokens, firstLine: line } = this.#leftOut;
    if (pieces === 0) return [];
    const message =
      `${pieces} pieces of split rows, with ${tokens} tokens, are left out: no token in them is trained. The first is of ` +
      `line ${line}. Raise training.max_seq_length to keep more of them.`;
    return [{ code: 'untrained_sequences_dropped', message, line }];
  }
}
