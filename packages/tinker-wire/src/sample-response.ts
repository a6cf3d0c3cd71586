import { aligned, MessageReader } from './message-reader.js';
import { bytesOf, MessageWriter } from './message-writer.js';
import { WireError } from './wire-error.js';

/** The log-probability of an empty cell of the matrices of top tokens; its id is 0. */
const EMPTY_CELL = -99_999;

/** The numbers of `StopReason`. */
const STOP_REASONS = { stop: 0, length: 1 } as const;

export interface TopToken {
  id: number;
  logprob: number;
}

export interface WireSequence {
  stopReason: keyof typeof STOP_REASONS;
  tokens: Int32Array | readonly number[];
  /** `[tokens]` */
  logProbabilities: Float32Array | readonly number[];
  /** `[tokens]` the top tokens of each position, the most probable first; null: not wanted */
  top: readonly (readonly TopToken[])[] | null;
}

export interface SampleResponse {
  sequences: readonly WireSequence[];
  /** `[prompt]` null, which becomes NaN, of positions without one; null: not wanted */
  promptLogProbabilities: readonly (number | null)[] | null;
  /** `[prompt]` the top tokens of each position; null: not wanted */
  promptTop: readonly (readonly TopToken[] | null)[] | null;
  /** The top tokens of a position of the prompt and of a sequence. @defaultValue as many as a position has at most */
  topK?: number;
  /** Tokens of the prompt that were computed before. @defaultValue 0 */
  promptCacheHitTokens?: number;
}

/**
 * Encode a `SampleResponse`. The client has the ids of its sequences from the answer to its request, not from here.
 *
 * @throws {WireError} for sizes that disagree
 */
export function encodeSampleResponse(response: SampleResponse): Uint8Array {
  const { sequences, promptLogProbabilities, promptTop, topK, promptCacheHitTokens = 0 } = response;
  const writer = new MessageWriter();
  for (const sequence of sequences) writer.message(1, sequenceOf(sequence, topK));
  if (promptLogProbabilities !== null) {
    writer.bytes(2, bytesOf(Float32Array.from(promptLogProbabilities, (value) => value ?? Number.NaN)));
  }
  if (promptTop !== null) writer.message(3, topTokens(promptTop, topK));
  return writer.integer(4, promptCacheHitTokens).finish();
}

function sequenceOf({ stopReason, tokens, logProbabilities, top }: WireSequence, topK: number | undefined) {
  for (const [name, list] of Object.entries({ logprobs: logProbabilities, topk_sampled_logprobs: top ?? tokens })) {
    if (list.length !== tokens.length) {
      throw new WireError(name, `has ${list.length} positions, and the sequence ${tokens.length} tokens`);
    }
  }
  const writer = new MessageWriter()
    .integer(1, STOP_REASONS[stopReason])
    .bytes(2, bytesOf(Int32Array.from(tokens)))
    .bytes(3, bytesOf(Float32Array.from(logProbabilities)));
  return top === null ? writer : writer.message(4, topTokens(top, topK));
}

/** @returns `TopkLogprobs`: matrices of `[positions, k]`, which a position without top tokens has empty cells in */
function topTokens(
  positions: readonly (readonly TopToken[] | null)[],
  k: number = positions.reduce((most, tokens) => Math.max(most, tokens?.length ?? 0), 0),
): MessageWriter {
  const ids = new Int32Array(positions.length * k);
  const logProbabilities = new Float32Array(positions.length * k).fill(EMPTY_CELL);
  for (const [position, tokens] of positions.entries()) {
    for (const [index, { id, logprob }] of (tokens ?? []).slice(0, k).entries()) {
      ids[position * k + index] = id;
      logProbabilities[position * k + index] = logprob;
    }
  }
  return new MessageWriter()
    .bytes(1, bytesOf(ids))
    .bytes(2, bytesOf(logProbabilities))
    .integer(3, k)
    .integer(4, positions.length);
}

/**
 * Decode a `SampleResponse`.
 *
 * @throws {WireError} for a body that is not one
 */
export function decodeSampleResponse(bytes: Uint8Array): Omit<SampleResponse, 'topK'> {
  const reader = new MessageReader(bytes, 'sample');
  const sequences: WireSequence[] = [];
  const response: Omit<SampleResponse, 'topK'> = { sequences, promptLogProbabilities: null, promptTop: null };
  while (reader.next()) {
    if (reader.field === 1) sequences.push(readSequence(reader.message('sequences')));
    else if (reader.field === 2) {
      const values = new Float32Array(...aligned(reader.bytes('prompt_logprobs'), 4));
      response.promptLogProbabilities = Array.from(values, (value) => (Number.isNaN(value) ? null : value));
    } else if (reader.field === 3) response.promptTop = readTopTokens(reader.message('topk_prompt_logprobs'));
    else if (reader.field === 4) response.promptCacheHitTokens = reader.integer('prompt_cache_hit_tokens');
    else reader.skip();
  }
  return response;
}

function readSequence(reader: MessageReader): WireSequence {
  const sequence: WireSequence = { stopReason: 'stop', tokens: [], logProbabilities: [], top: null };
  while (reader.next()) {
    if (reader.field === 1)
      sequence.stopReason = reader.integer('stop_reason') === STOP_REASONS.length ? 'length' : 'stop';
    else if (reader.field === 2) sequence.tokens = new Int32Array(...aligned(reader.bytes('tokens'), 4));
    else if (reader.field === 3) sequence.logProbabilities = new Float32Array(...aligned(reader.bytes('logprobs'), 4));
    else if (reader.field === 4) sequence.top = readTopTokens(reader.message('topk_sampled_logprobs'));
    else reader.skip();
  }
  return sequence;
}

function readTopTokens(reader: MessageReader): TopToken[][] {
  let [ids, logProbabilities] = [new Int32Array(), new Float32Array()];
  let [k, positions] = [0, 0];
  while (reader.next()) {
    if (reader.field === 1) ids = new Int32Array(...aligned(reader.bytes('token_ids'), 4));
    else if (reader.field === 2) logProbabilities = new Float32Array(...aligned(reader.bytes('logprobs'), 4));
    else if (reader.field === 3) k = reader.integer('k');
    else if (reader.field === 4) positions = reader.integer('positions');
    else reader.skip();
  }
  if (ids.length !== positions * k || logProbabilities.length !== ids.length) {
    throw new WireError('topk_logprobs', `has ${ids.length} tokens, and ${positions} positions of ${k}`);
  }
  return Array.from({ length: positions }, (_, position) =>
    Array.from(ids.subarray(position * k, (position + 1) * k), (id, index) => ({
      id,
      logprob: logProbabilities[position * k + index]!,
    })).filter(({ logprob }) => logprob !== EMPTY_CELL),
  );
}
