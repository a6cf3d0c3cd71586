import {
  type AttentionSettings,
  add,
  adjustScores,
  argMax,
  batchMatMul,
  cast,
  concat,
  dispose,
  GroupedAttention,
  gather,
  groupRows,
  keep,
  MASKED,
  type RotaryTable,
  reshape,
  rotaryTable,
  rotate,
  scope,
  softmax,
  split,
  type Tensor,
  tensorOf,
  toInt32Array,
} from '@lorasmith/tensor';
import { type ActingAdapter, type Adapter, checkedAdapters } from '../pass.js';
import { type BlockContext, type Stream, streamSum } from './block.js';
import { type Decoder, positionsInRows } from './decoder.js';
import type { Attend, SelfAttention } from './self-attention.js';

/** Keys and values of one layer, `[rows, keyValueHeads, slots, headDim]` each, rotated. */
type LayerCache = {
  key: Tensor;
  value: Tensor;
};

type Caches = Map<SelfAttention, LayerCache>;

export interface GenerateOptions {
  maxNewTokens: number;
  /** A row is done when it produces one of these; default: the model's end-of-text tokens. */
  stopIds?: readonly number[];
  /** The adapter of each prompt; null: the base alone. @defaultValue the base alone for all */
  adapters?: readonly (Adapter | null)[];
}

/** A text that is being continued. */
class Row {
  readonly produced: number[] = [];
  readonly adapter: Adapter | null;
  done: boolean;
  readonly #prompt: Int32Array;
  readonly #mostTokens: number;
  readonly #stopIds: ReadonlySet<number>;

  /** @param mostTokens the limit of produced tokens */
  constructor(prompt: Int32Array, adapter: Adapter | null, mostTokens: number, stopIds: ReadonlySet<number>) {
    this.#prompt = prompt;
    this.adapter = adapter;
    this.#mostTokens = mostTokens;
    this.#stopIds = stopIds;
    this.done = mostTokens <= 0;
  }

  /** `[length]` prompt and new tokens */
  get ids(): Int32Array {
    return Int32Array.of(...this.#prompt, ...this.produced);
  }

  get length(): number {
    return this.#prompt.length + this.produced.length;
  }

  take(id: number): void {
    if (this.done) return;
    if (this.#stopIds.has(id)) {
      this.done = true;
      return;
    }
    this.produced.push(id);
    this.done = this.produced.length === this.#mostTokens;
  }
}

/**
 * Greedy decoding: always the token ranked first. Keys and values of earlier tokens are cached, rows of similar length
 * continue together. Where positions are learned, a row ends with the last of them.
 * @param prompts token ids, none empty
 * @returns the new tokens of each prompt, without the stop token
 */
export function generateGreedily(
  decoder: Decoder,
  prompts: readonly Int32Array[],
  options: GenerateOptions,
): number[][] {
  const stopIds = new Set(options.stopIds ?? decoder.architecture.eosTokenIds);
  const positions = decoder.weights.positions?.shape[0] ?? Number.POSITIVE_INFINITY;
  const rows = prompts.map((prompt, index) => {
    const adapter = options.adapters?.[index] ?? null;
    // The last position predicts one more token, which is not read again.
    return new Row(prompt, adapter, Math.min(options.maxNewTokens, positions - prompt.length + 1), stopIds);
  });
  let pending = rows.filter(({ done }) => !done);
  while (pending.length > 0) {
    pending.sort((a, b) => b.length - a.length);
    const groups = groupRows(
      pending.map(({ length }) => length),
      decoder.architecture.headCount,
    );
    for (const { length } of groups) continueRows(decoder, pending.splice(0, length));
    pending = rows.filter(({ done }) => !done);
  }
  return rows.map(({ produced }) => produced);
}

/**
 * Continues rows of one group until all are done, or until a rope that depends on the length changes: then the cached
 * keys are no longer valid.
 */
function continueRows(decoder: Decoder, rows: readonly Row[]): void {
  const lengths = rows.map(({ length }) => length);
  const classOf = (produced: number) => decoder.rotary.spanClass(lengths[0]! + produced);
  const owners = rows.map(({ adapter }) => adapter);
  let { caches, next } = prefill(
    decoder,
    rows.map(({ ids }) => ids),
    owners,
  );
  for (let produced = 0; ; produced++) {
    for (const [row, id] of next.entries()) rows[row]!.take(id);
    if (rows.every(({ done }) => done) || classOf(produced + 1) !== classOf(0)) break;
    ({ caches, next } = decodeStep(decoder, next, owners, caches, lengths, produced));
  }
  dispose([...caches.values()]);
}

/** Runs the prompts, which are one group, and gives each one's first new token. */
function prefill(
  decoder: Decoder,
  prompts: readonly Int32Array[],
  owners: readonly (Adapter | null)[],
): { caches: Caches; next: Int32Array } {
  const lengths = prompts.map((prompt) => prompt.length);
  const ids = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  const lastIndices = new Int32Array(prompts.length);
  let start = 0;
  for (const [row, prompt] of prompts.entries()) {
    ids.set(prompt, start);
    start += prompt.length;
    lastIndices[row] = start - 1;
  }
  const caches: Caches = new Map();
  const next = scope(() => {
    const angles = decoder.rotary.angles(Math.max(...lengths));
    const attention = new GroupedAttention({
      lengths,
      heads: decoder.architecture.headCount,
      angles,
      windows: decoder.windows,
    });
    const attend = forwardOnly((qkv, layer) => {
      const { output, saved } = attention.forward(qkv, layer.settings, true);
      const { key, value, ...rest } = saved![0]!;
      caches.set(layer, keep({ key, value }));
      dispose(rest);
      return output;
    });
    const last = throughLayers(
      decoder,
      decoder.embed(ids, positionsInRows(lengths)),
      actingOn(owners, lengths),
      attend,
    );
    return rankedFirst(decoder, gather(last, tensorOf(lastIndices, [lastIndices.length])));
  });
  return { caches, next };
}

function forwardOnly(compute: (qkv: Tensor, layer: SelfAttention) => Tensor): Attend {
  return {
    forward: (qkv, layer) => ({ output: compute(qkv, layer), saved: null }),
    backward: () => {
      throw new Error('generation has no backward pass');
    },
  };
}

/** Adapters of rows that lie one after the other. */
function actingOn(owners: readonly (Adapter | null)[], lengths: readonly number[]): readonly ActingAdapter[] {
  const acting: { adapter: Adapter; tokens: { first: number; count: number } }[] = [];
  let first = 0;
  for (const [row, adapter] of owners.entries()) {
    const last = acting.at(-1);
    if (adapter !== null && last?.adapter === adapter && last.tokens.first + last.tokens.count === first) {
      last.tokens.count += lengths[row]!;
    } else if (adapter !== null) acting.push({ adapter, tokens: { first, count: lengths[row]! } });
    first += lengths[row]!;
  }
  return checkedAdapters(acting, first);
}

/** `[tokens, hidden]` float32 after the last layer. @param x `[tokens, hidden]` float32 */
function throughLayers(decoder: Decoder, x: Tensor, adapters: readonly ActingAdapter[], attend: Attend): Tensor {
  const context: BlockContext = { adapters, record: false, attend, wanted: null };
  const start: Stream = { x, branch: null, ownsX: true };
  return streamSum(decoder.weights.layers.reduce((stream, layer) => layer.forward(stream, context).stream, start));
}

/**
 * One more token for every row. In the caches, the prompt's slots come first (padded to the longest), then one for each
 * new token.
 * @param produced new tokens in the caches so far
 */
function decodeStep(
  decoder: Decoder,
  ids: Int32Array,
  owners: readonly (Adapter | null)[],
  caches: Caches,
  promptLengths: readonly number[],
  produced: number,
): { caches: Caches; next: Int32Array } {
  const { architecture } = decoder;
  const rows = ids.length;
  const grown: Caches = new Map();
  const next = scope(() => {
    // Finished rows stay in the batch; they must not ask for a position beyond the last.
    const lastPosition = (decoder.weights.positions?.shape[0] ?? Number.POSITIVE_INFINITY) - 1;
    const positions = Int32Array.from(promptLengths, (length) => Math.min(length + produced, lastPosition));
    const table = rotaryTable(decoder.rotary.angles(positions)); // (rows, headDim)
    const perRow = (x: Tensor) => reshape(x, [rows, 1, 1, architecture.headDim]);
    const rotary: RotaryTable = {
      cosine: perRow(table.cosine),
      sine: perRow(table.sine),
      inverseSine: perRow(table.inverseSine),
    };
    const masks = new Map(decoder.windows.map((window) => [window, slotMask(promptLengths, produced + 1, window)]));
    const attend = forwardOnly((qkv, layer) => {
      const cache = caches.get(layer)!;
      const result = scope(() => attendToCache(qkv, cache, rotary, masks, layer.settings));
      grown.set(layer, keep(result.cache));
      dispose(cache);
      return result.output;
    });
    const acting = actingOn(
      owners,
      owners.map(() => 1),
    );
    return rankedFirst(decoder, throughLayers(decoder, decoder.embed(ids, positions), acting, attend)); // (rows, hidden)
  });
  return { caches: grown, next };
}

function attendToCache(
  qkv: Tensor,
  cache: LayerCache,
  rotary: RotaryTable,
  masks: ReadonlyMap<number | null, Tensor>,
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
  const masked = add(adjustScores(scores, settings), masks.get(settings.window)!);
  const mixed = batchMatMul(cast(softmax(masked), qkv.dtype), value); // (rows, kv, queriesPerKey, headDim)
  return { output: reshape(mixed, [rows, headCount * headDim]), cache: { key, value } };
}

/**
 * `[rows, 1, 1, slots]`: a row sees its prompt, not the padding behind it, and the new tokens; with a window only what is
 * no further back than that.
 */
function slotMask(promptLengths: readonly number[], newTokens: number, window: number | null): Tensor {
  const longest = Math.max(...promptLengths);
  const slots = longest + newTokens;
  const mask = new Float32Array(promptLengths.length * slots);
  for (const [row, length] of promptLengths.entries()) {
    const first = row * slots;
    mask.fill(MASKED, first + length, first + longest);
    if (window === null) continue;
    const unseen = Math.max(0, length + newTokens - window);
    mask.fill(MASKED, first, first + Math.min(unseen, length));
    mask.fill(MASKED, first + longest, first + longest + Math.max(0, unseen - length));
  }
  return tensorOf(mask, [promptLengths.length, 1, 1, slots]);
}

/** @param hidden `[rows, hidden]` float32 */
function rankedFirst(decoder: Decoder, hidden: Tensor): Int32Array {
  return toInt32Array(argMax(decoder.logitsOf(hidden)));
}
