import { ProductError } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import { concatenate } from '../../example-file/example-file.js';
import { type Examples, FileExamples } from '../../example-file/examples.js';
import type { Segment } from './turn-segments.js';

/** Sequences of tokens, each predicted from those before it. */
export interface TokenExamples extends Examples {
  kind: 'next-token';
  /**
   * `ids`: `[tokens]`. `trained`: `[tokens]` 1 where the token is a target of the loss; never 1 at the first: nothing
   * predicts it.
   */
  sequence(index: number): { ids: Int32Array; trained: Uint8Array };
}

export class StoredTokens extends FileExamples implements TokenExamples {
  readonly kind = 'next-token';

  sequence(index: number): EncodedRow {
    return sequenceOfCodes(this.codes(index));
  }
}

/** The sign of a token's code says that it is a target of the loss; ids are far smaller than 2^31. */
const TRAINED = 0x80000000;

/** A sequence in codes of 4 bytes, one for each token. */
export function codesOfSequence({ ids, trained }: EncodedRow): Int32Array {
  const codes = new Int32Array(ids.length);
  for (let token = 0; token < ids.length; token++) codes[token] = ids[token]! | (trained[token] === 1 ? TRAINED : 0);
  return codes;
}

/** Targets of the loss in a sequence. */
export function trainedOf({ trained }: Pick<EncodedRow, 'trained'>): number {
  return trained.reduce((sum, flag) => sum + flag, 0);
}

export function isTrainedCode(code: number): boolean {
  return code < 0;
}

/** The codes may be a part of a row: its first token is no target then, although it is one in the row. */
export function sequenceOfCodes(codes: Int32Array): EncodedRow {
  const ids = new Int32Array(codes.length);
  const trained = new Uint8Array(codes.length);
  for (let token = 0; token < codes.length; token++) {
    ids[token] = codes[token]! & ~TRAINED;
    trained[token] = codes[token]! >>> 31;
  }
  trained[0] = 0;
  return { ids, trained };
}

/** One row as tokens. */
export interface EncodedRow {
  /** `[tokens]` */
  ids: Int32Array;
  /** `[tokens]` 1 where the token is a target of the loss. */
  trained: Uint8Array;
  /** The chat template leaves out part of a message. */
  isIncomplete?: true;
}

/**
 * Tokens of a text of which some segments are trained. The ids are those of the whole text, and each token belongs to one
 * segment. Where a token would cross a boundary, both segments are tokenized separately, as in generation, where the
 * answer continues a tokenized prompt.
 *
 * @throws ProductError `chat_template_failed` when that would change the text, as with tokenizers that begin every text
 * with a space.
 */
export function encodeSegments(tokenizer: Tokenizer, segments: readonly Segment[]): EncodedRow {
  const tokenized = segments.map(({ text }) => tokenizer.encode(text));
  const joined = concatenate(tokenized);
  const wholeText = segments.map(({ text }) => text).join('');
  const whole = tokenizer.encode(wholeText);
  if (isPrefix(whole, joined) && whole.length === joined.length) return mark(joined, segments, lengthsOf(tokenized));

  // The tokenized differ, for instance in a space before each. The boundaries may still fall between tokens of the whole.
  const lengths = lengthsWithin(tokenizer, segments, whole);
  if (lengths !== null) return mark(whole, segments, lengths);

  if (tokenizer.decode(joined) === tokenizer.decode(whole)) return mark(joined, segments, lengthsOf(tokenized));
  throw new ProductError(
    'chat_template_failed',
    'A token of this row belongs both to what is trained and to what comes before or after it. ' +
      'Start the answer with a space or a new line, or end the prompt with one.',
  );
}

/** The count of tokens of the whole text in each segment; null when a token crosses a boundary. */
function lengthsWithin(tokenizer: Tokenizer, segments: readonly Segment[], whole: Int32Array): number[] | null {
  const lengths: number[] = [];
  let text = '';
  let position = 0;
  for (const segment of segments.slice(0, -1)) {
    text += segment.text;
    const before = tokenizer.encode(text);
    if (!isPrefix(before, whole) || before.length < position) return null;
    lengths.push(before.length - position);
    position = before.length;
  }
  return [...lengths, whole.length - position];
}

function lengthsOf(parts: readonly Int32Array[]): number[] {
  return parts.map(({ length }) => length);
}

function mark(ids: Int32Array, segments: readonly Segment[], lengths: readonly number[]): EncodedRow {
  const trained = new Uint8Array(ids.length);
  let position = 0;
  for (const [index, length] of lengths.entries()) {
    if (segments[index]!.trained) trained.fill(1, position, position + length);
    position += length;
  }
  return { ids, trained };
}

function isPrefix(prefix: Int32Array, ids: Int32Array): boolean {
  return prefix.length <= ids.length && prefix.every((id, index) => id === ids[index]);
}
