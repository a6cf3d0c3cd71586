import { ProductError } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import { concatenate } from '../../concatenate.js';
import type { Segment } from './turn-segments.js';

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
  const pieces = segments.map(({ text }) => tokenizer.encode(text));
  const joined = concatenate(pieces);
  const wholeText = segments.map(({ text }) => text).join('');
  const whole = tokenizer.encode(wholeText);
  if (isPrefix(whole, joined) && whole.length === joined.length) return mark(joined, segments, lengthsOf(pieces));

  // The pieces differ, for instance in a space before each. The boundaries may still fall between tokens of the whole.
  const lengths = lengthsWithin(tokenizer, segments, whole);
  if (lengths !== null) return mark(whole, segments, lengths);

  if (tokenizer.decode(joined) === tokenizer.decode(whole)) return mark(joined, segments, lengthsOf(pieces));
  throw new ProductError(
    'chat_template_failed',
    'A token of this row belongs both to what is trained and to what comes before or after it. ' +
      'Start the answer with a space or a new line, or end the prompt with one.',
  );
}

/** How many tokens of the whole text each segment has; null when a token crosses a boundary. */
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

function lengthsOf(pieces: readonly Int32Array[]): number[] {
  return pieces.map(({ length }) => length);
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
