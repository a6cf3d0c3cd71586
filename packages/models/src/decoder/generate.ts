import {
  type AttentionSettings,
  add,
  argMax,
  batchMatMul,
  cast,
  concat,
  dispose,
  gather,
  keep,
  reshape,
  scope,
  softmax,
  split,
  type Tensor,
  tensorOf,
  toInt32Array,
} from '@lorasmith/tensor';
import type { Decoder } from './decoder.js';
import { type Stream, streamSum } from './decoder-layer.js';
import { adjustScores, groupedAttention } from './grouped-attention.js';
import { type RotaryTable, rotate } from './rotary.js';
import { groupRows, MASKED } from './row-groups.js';

/** Keys and values of one layer, `[rows, keyValueHeads, slots, headDim]` each, rotated. */
interface LayerCache {
  key: Tensor;
  value: Tensor;
}

export interface GenerateOptions {
  maxNewTokens: number;
  /** A row is done when it produces one of these; default: the model's end-of-text tokens. */
  stopIds?: readonly number[];
}

/**
 * Greedy decoding: always the token ranked first. Keys and values of earlier tokens are kept, rows of like length go on
 * together.
 * @param prompts token ids, none empty
 * @returns the new tokens of each prompt, without the stop token
 */
export function generateGreedily(
  decoder: Decoder,
  prompts: readonly Int32Array[],
  options: GenerateOptions,
): number[][] {
  const order = [...prompts.keys()].sort((a, b) => prompts[b]!.length - prompts[a]!.length);
  const texts: number[][] = prompts.map(() => []);
  const lengths = order.map((index) => prompts[index]!.length);
  const groupSizes = scope(() => groupRows(lengths, decoder.rotary).map(({ rows }) => rows));
  let first = 0;
  for (const rows of groupSizes) {
    const indices = order.slice(first, first + rows);
    const generated = generateGroup(
      decoder,
      indices.map((index) => prompts[index]!),
      options,
    );
    for (const [row, index] of indices.entries()) texts[index] = generated[row]!;
    first += rows;
  }
  return texts;
}

function generateGroup(decoder: Decoder, prompts: readonly Int32Array[], options: GenerateOptions): number[][] {
  const stopIds = new Set(options.stopIds ?? decoder.architecture.eosTokenIds);
  const lengths = prompts.map((prompt) => prompt.length);
  const generated: number[][] = prompts.map(() => []);
  const done = prompts.map(() => false);
  let { caches, next } = prefill(decoder, prompts);
  for (let produced = 0; produced < options.maxNewTokens; produced++) {
    for (const [row, id] of next.entries()) {
      if (done[row]) continue;
      if (stopIds.has(id)) done[row] = true;
      else generated[row]!.push(id);
    }
    if (done.every(Boolean) || produced + 1 === options.maxNewTokens) break;
    ({ caches, next } = decodeStep(decoder, next, caches, lengths, produced));
  }
  dispose(caches);
  return generated;
}

/** Runs the prompts, which are one group, and gives each one's first new token. */
function prefill(decoder: Decoder, prompts: readonly Int32Array[]): { caches: LayerCache[]; next: Int32Array } {
  const lengths = prompts.map((prompt) => prompt.length);
  const ids = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  const lastPlaces = new Int32Array(prompts.length);
  let start = 0;
  for (const [row, prompt] of prompts.entries()) {
    ids.set(prompt, start);
    start += prompt.length;
    lastPlaces[row] = start - 1;
  }
  const caches: LayerCache[] = [];
  const next = scope(() => {
    const groups = groupRows(lengths, decoder.rotary);
    let stream: Stream = { x: decoder.embed(ids), branch: null };
    for (const layer of decoder.weights.layers) {
      const attend = (qkv: Tensor) => {
        const { output, saved } = groupedAttention(qkv, groups, layer.attention, true);
        const { key, value, ...rest } = saved[0]!;
        caches.push(keep({ key, value }));
        dispose(rest);
        return { output, saved: null };
      };
      stream = layer.forward(stream, attend, false).stream;
    }
    return rankedFirst(decoder, gather(streamSum(stream), tensorOf(lastPlaces, [lastPlaces.length])));
  });
  return { caches, next };
}

/**
 * One more token for every row. In the caches, the prompt's slots come first (padded to the longest), then one for each
 * new token.
 * @param produced new tokens that are in the caches by now
 */
function decodeStep(
  decoder: Decoder,
  ids: Int32Array,
  caches: readonly LayerCache[],
  promptLengths: readonly number[],
  produced: number,
): { caches: LayerCache[]; next: Int32Array } {
  const { architecture } = decoder;
  const rows = ids.length;
  const grown: LayerCache[] = [];
  const next = scope(() => {
    const table = decoder.rotary.table(promptLengths.map((length) => length + produced)); // (rows, headDim)
    const perRow = (x: Tensor) => reshape(x, [rows, 1, 1, architecture.headDim]);
    const rotary: RotaryTable = {
      cosine: perRow(table.cosine),
      sine: perRow(table.sine),
      inverseSine: perRow(table.inverseSine),
    };
    const mask = slotMask(promptLengths, produced + 1);
    let stream: Stream = { x: decoder.embed(ids), branch: null }; // (rows, hidden)
    for (const [index, layer] of decoder.weights.layers.entries()) {
      const attend = (qkv: Tensor) => {
        const result = scope(() => attendToCache(qkv, caches[index]!, rotary, mask, layer.attention));
        grown.push(keep(result.cache));
        dispose(caches[index]);
        return { output: result.output, saved: null };
      };
      stream = layer.forward(stream, attend, false).stream;
    }
    return rankedFirst(decoder, streamSum(stream));
  });
  return { caches: grown, next };
}

function attendToCache(
  qkv: Tensor,
  cache: LayerCache,
  rotary: RotaryTable,
  mask: Tensor,
  settings: AttentionSettings,
): { output: Tensor; cache: LayerCache } {
  const { heads: headCount, keyValueHeads: keyValueHeadCount, headDim } = settings;
  const rows = qkv.shape[0]!;
  const heads = reshape(qkv, [rows, headCount + 2 * keyValueHeadCount, 1, headDim]);
  const [queryAndKey, newValue] = split(heads, [headCount + keyValueHeadCount, keyValueHeadCount], 1);
  const [query, newKey] = split(rotate(queryAndKey!, rotary, 'forward'), [headCount, keyValueHeadCount], 1);
  const key = concat([cache.key, newKey!], 2); // (rows, kv, slots, headDim)
  const value = concat([cache.value, newValue!], 2);
  const grouped = reshape(query!, [rows, keyValueHeadCount, headCount / keyValueHeadCount, headDim]);
  const scores = cast(batchMatMul(grouped, key, { transposeB: true }), 'float32'); // (rows, kv, queriesPerKey, slots)
  const masked = add(adjustScores(scores, settings), mask);
  const mixed = batchMatMul(cast(softmax(masked), qkv.dtype), value); // (rows, kv, queriesPerKey, headDim)
  return { output: reshape(mixed, [rows, headCount * headDim]), cache: { key, value } };
}

/** `[rows, 1, 1, slots]`: a row sees its prompt, not the padding behind it, and the new tokens. */
function slotMask(promptLengths: readonly number[], newTokens: number): Tensor {
  const longest = Math.max(...promptLengths);
  const slots = longest + newTokens;
  const mask = new Float32Array(promptLengths.length * slots);
  for (const [row, length] of promptLengths.entries()) mask.fill(MASKED, row * slots + length, row * slots + longest);
  return tensorOf(mask, [promptLengths.length, 1, 1, slots]);
}

/** @param hidden `[rows, hidden]` float32 */
function rankedFirst(decoder: Decoder, hidden: Tensor): Int32Array {
  return toInt32Array(argMax(decoder.headLogits(hidden)));
}
