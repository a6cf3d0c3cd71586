import { add } from '../arithmetic.js';
import { elementType, execute, floatAttribute, intAttribute } from '../execute.js';
import { concat, fill, reshape, slice, split, transpose } from '../layout.js';
import { alias, BYTES_PER_ELEMENT, dispose, type FloatDType, keep, scope, type Tensor } from '../tensor.js';
import { cast, onDevice, tensorOf } from '../transfer.js';
import type { AttentionSettings } from './attention.js';
import { hasAttentionKernel, sinksInput } from './fused-attention.js';
import { adjustScores, softmaxWithSinks } from './grouped-attention.js';
import { batchMatMul } from './product.js';
import { type RotaryAngles, type RotaryTable, rotaryTable, rotate } from './rotary.js';
import { MASKED } from './score-blocks.js';

/** Tokens of a page: the unit in which a cache is given to texts. */
export const PAGE_TOKENS = 32;

export interface CacheShape {
  /** The heads of each layer. */
  layers: readonly { keyValueHeads: number; headDim: number }[];
  /** Number of pages, of {@link PAGE_TOKENS} each. */
  pages: number;
  /** The windows of the layers. */
  windows: readonly (number | null)[];
  dtype: FloatDType;
}

/** The fused op computes in whole vectors. */
function paddedHeadDim(headDim: number): number {
  return Math.ceil(headDim / 32) * 32;
}

/** Bytes of a full cache. */
export function cacheSizeBytes({ layers, pages, dtype }: Omit<CacheShape, 'windows'>): number {
  const perToken = layers.reduce(
    (sum, { keyValueHeads, headDim }) => sum + 2 * keyValueHeads * paddedHeadDim(headDim),
    0,
  );
  return pages * PAGE_TOKENS * perToken * BYTES_PER_ELEMENT[dtype];
}

/** A text in one step: some tokens that follow those of it that the cache has. */
export interface CachedText {
  /** The pages of the text's keys and values, in its order; enough for the tokens of the step, too. Texts can share whole pages. */
  pages: readonly number[];
  /** Tokens of the text in the cache before this step. */
  cached: number;
  /** Tokens of the text in this step. */
  tokens: number;
  /**
   * True if they are of what the text began with. On a GPU these have the kernel for many tokens, and those that come one by one
   * another, so that a token's numbers do not depend on how many of its text are read in a step.
   */
  isPrompt: boolean;
}

/** Attention of one step, the same for all layers. */
export interface CacheStep {
  /**
   * Puts keys and values into the cache; each query sees those of its text up to its own.
   * @param qkv `[tokens, (heads + 2 × keyValueHeads) × headDim]`: the tokens of each text, one text after the other
   * @returns `[tokens, heads × headDim]`
   */
  attend(qkv: Tensor, layer: number, settings: AttentionSettings): Tensor;
}

/** Keys (rotated) and values of earlier tokens, for generation. Its memory is divided into pages. */
export interface KeyValueCache {
  /**
   * Lays out a step.
   * @param texts in the order of the stream
   * @param angles `[tokens, headDim / 2]`, of each token's position
   */
  step(texts: readonly CachedText[], angles: RotaryAngles): CacheStep;
  /** Says that a page has nothing that is needed. */
  clear(pages: readonly number[]): void;
  /** Frees the memory. */
  dispose(): void;
}

/** `[1, keyValueHeads, tokens, headDim]` each */
type Page = { key: Tensor; value: Tensor };

/**
 * A cache in TensorFlow's own ops, which cannot write into a tensor: a page is a tensor with as many tokens as it has so far,
 * and attention joins the pages of a text.
 */
export class PageCache implements KeyValueCache {
  /** The pages of each layer. */
  readonly #pages: (Page | undefined)[][];
  readonly #windows: readonly (number | null)[];

  constructor({ layers, pages, windows }: CacheShape) {
    this.#windows = windows;
    this.#pages = layers.map(() => new Array<Page | undefined>(pages));
  }

  step(texts: readonly CachedText[], angles: RotaryAngles): CacheStep {
    const [tokens, half] = angles.cosine.shape as [number, number];
    const perToken = (x: Tensor) => reshape(x, [tokens, 1, 2 * half]);
    const { cosine, sine, inverseSine } = rotaryTable(angles);
    const rotary = { cosine: perToken(cosine), sine: perToken(sine), inverseSine: perToken(inverseSine) };
    const masksOf = (window: number | null) => texts.map((text) => causalMask(text, window));
    const masks = new Map(this.#windows.map((window) => [window, masksOf(window)]));
    return {
      attend: (qkv, layer, settings) => {
        return this.#attend(qkv, this.#pages[layer]!, settings, texts, rotary, masks.get(settings.window)!);
      },
    };
  }

  #attend(
    qkv: Tensor,
    pages: (Page | undefined)[],
    settings: AttentionSettings,
    texts: readonly CachedText[],
    rotary: RotaryTable,
    masks: readonly (Tensor | null)[],
  ): Tensor {
    const { heads, keyValueHeads, headDim } = settings;
    return scope(() => {
      const tokens = qkv.shape[0]!;
      const byHead = reshape(qkv, [tokens, heads + 2 * keyValueHeads, headDim]);
      const [queryAndKey, values] = split(byHead, [heads + keyValueHeads, keyValueHeads], 1);
      const [queries, keys] = split(rotate(queryAndKey!, rotary, 'forward'), [heads, keyValueHeads], 1);
      let first = 0;
      const outputs = texts.map((text, index) => {
        const own = (x: Tensor) => rowsOf(x, first, text.tokens);
        const { key, value } = this.#extended(pages, text, own(keys!), own(values!));
        const output = attendText(own(queries!), key, value, masks[index]!, settings);
        first += text.tokens;
        return output;
      });
      return concat(outputs, 0);
    });
  }

  /**
   * Puts new tokens into the pages of a text.
   * @param keys,values `[tokens, keyValueHeads, headDim]`
   * @returns all of the text's, `[1, keyValueHeads, all tokens, headDim]`
   */
  #extended(pages: (Page | undefined)[], text: CachedText, keys: Tensor, values: Tensor): Page {
    const byHead = (x: Tensor) => reshape(transpose(x, [1, 0, 2]), [1, x.shape[1]!, x.shape[0]!, x.shape[2]!]);
    const added = { key: byHead(keys), value: byHead(values) };
    const end = text.cached + text.tokens;
    for (let position = text.cached; position < end; ) {
      const page = text.pages[Math.floor(position / PAGE_TOKENS)]!;
      const inPage = position % PAGE_TOKENS;
      const count = Math.min(PAGE_TOKENS - inPage, end - position);
      const before = pages[page];
      const grown = (part: keyof Page) => {
        const own = slice(added[part], [0, 0, position - text.cached, 0], [-1, -1, count, -1]);
        return inPage === 0 ? own : concat([slice(before![part], [0, 0, 0, 0], [-1, -1, inPage, -1]), own], 2);
      };
      pages[page] = keep({ key: grown('key'), value: grown('value') });
      dispose(before);
      position += count;
    }
    const all = text.pages.slice(0, Math.ceil(end / PAGE_TOKENS)).map((page) => pages[page]!);
    const joined = (part: keyof Page) =>
      concat(
        all.map((page) => page[part]),
        2,
      );
    return { key: joined('key'), value: joined('value') };
  }

  clear(cleared: readonly number[]): void {
    for (const pages of this.#pages) {
      for (const page of cleared) {
        dispose(pages[page]);
        pages[page] = undefined;
      }
    }
  }

  dispose(): void {
    for (const pages of this.#pages) {
      for (const page of pages) dispose(page);
      pages.length = 0;
    }
  }
}

/** Rows of `[tokens, …]`. */
function rowsOf(x: Tensor, first: number, count: number): Tensor {
  return count === x.shape[0] ? alias(x) : slice(x, [first, 0, 0], [count, -1, -1]);
}

/**
 * @param query `[tokens, heads, headDim]`
 * @param key,value `[1, keyValueHeads, keys, headDim]`
 * @returns `[tokens, heads × headDim]`
 */
function attendText(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  mask: Tensor | null,
  settings: AttentionSettings,
): Tensor {
  const { heads, keyValueHeads, headDim } = settings;
  const tokens = query.shape[0]!;
  const queriesPerKey = heads / keyValueHeads;
  const byHead = transpose(query, [1, 0, 2]); // (heads, tokens, headDim)
  const grouped = reshape(byHead, [1, keyValueHeads, queriesPerKey * tokens, headDim]);
  const scores = cast(batchMatMul(grouped, key, { transposeB: true }), 'float32'); // (1, kv, queriesPerKey x tokens, keys)
  const keys = key.shape[2]!;
  const adjusted = reshape(adjustScores(scores, settings), [heads, tokens, keys]);
  const weights = cast(softmaxWithSinks(mask === null ? adjusted : add(adjusted, mask), settings), query.dtype);
  const mixed = batchMatMul(reshape(weights, [1, keyValueHeads, queriesPerKey * tokens, keys]), value);
  return reshape(transpose(reshape(mixed, [heads, tokens, headDim]), [1, 0, 2]), [tokens, heads * headDim]);
}

/** `[1, tokens, keys]`: what each query sees; null: all of them see all. */
function causalMask({ cached, tokens }: CachedText, window: number | null): Tensor | null {
  const keys = cached + tokens;
  if (tokens === 1 && (window === null || keys <= window)) return null;
  const mask = new Float32Array(tokens * keys);
  for (let query = 0; query < tokens; query++) {
    const own = cached + query;
    if (window !== null) mask.fill(MASKED, query * keys, query * keys + Math.max(0, own - window + 1));
    mask.fill(MASKED, query * keys + own + 1, (query + 1) * keys);
  }
  return tensorOf(mask, [1, tokens, keys]);
}

/** {@link FusedCache}, where the engine has kernels for heads of these sizes. */
export function fusedCache(shape: CacheShape): KeyValueCache {
  const hasKernels = shape.layers.every(({ headDim }) => hasAttentionKernel(headDim));
  return hasKernels ? new FusedCache(shape) : new PageCache(shape);
}

/** A cache of one tensor for each layer, made once. One op puts tokens into it, in place, and attends. */
export class FusedCache implements KeyValueCache {
  /** Keys and values of each layer, `[pages, keyValueHeads, 2, PAGE_TOKENS, padded headDim]`. How a page lies is the op's own business. */
  readonly #layers: Tensor[] = [];
  readonly #pages: number;

  constructor({ layers, pages, dtype }: CacheShape) {
    this.#pages = pages;
    try {
      for (const { keyValueHeads, headDim } of layers) {
        this.#layers.push(keep(fill([pages, keyValueHeads, 2, PAGE_TOKENS, paddedHeadDim(headDim)], 0, dtype)));
      }
    } catch (error) {
      // A card has no memory for all layers.
      this.dispose();
      throw error;
    }
  }

  step(texts: readonly CachedText[], { cosine, sine }: RotaryAngles): CacheStep {
    const table = textTable(texts);
    const pages = onDevice(pageTable(texts, this.#pages));
    return {
      attend: (qkv, layer, settings) => {
        return scope(() => {
          const inputs = [qkv, this.#layers[layer]!, table, pages, cosine, sine, sinksInput(settings)];
          return execute('LorasmithCachedAttention', attributesOf(qkv, settings), inputs);
        });
      },
    };
  }

  /** The op clears a page when its first token comes, or reads no token that it has not put there. */
  clear(): void {}

  dispose(): void {
    dispose(this.#layers);
  }
}

/** `[texts, 4]` int32: of each text the first token, how many, how many the cache has, whether they are of its prompt. */
function textTable(texts: readonly CachedText[]): Tensor {
  let first = 0;
  const rows = texts.flatMap(({ tokens, cached, isPrompt }) => {
    const row = [first, tokens, cached, Number(isPrompt)];
    first += tokens;
    return row;
  });
  return tensorOf(Int32Array.from(rows), [texts.length, 4]);
}

/** `[texts, most pages]` int32: the pages of each text. On a GPU the op cannot check them: they are on the card. */
function pageTable(texts: readonly CachedText[], count: number): Tensor {
  const columns = Math.max(...texts.map(({ pages }) => pages.length));
  const table = new Int32Array(texts.length * columns);
  for (const [row, { tokens, cached, pages }] of texts.entries()) {
    const unknown = pages.find((page) => page < 0 || page >= count);
    if (unknown !== undefined) throw new Error(`page ${unknown} of a cache with ${count} pages`);
    if (cached + tokens > pages.length * PAGE_TOKENS) {
      throw new Error(`${cached + tokens} tokens of a text with ${pages.length} pages`);
    }
    table.set(pages, row * columns);
  }
  return tensorOf(table, [texts.length, columns]);
}

const attributesOf = (qkv: Tensor, { heads, keyValueHeads, window, scale, softcap }: AttentionSettings) => [
  elementType(qkv),
  intAttribute('heads', heads),
  intAttribute('key_value_heads', keyValueHeads),
  intAttribute('window', window ?? 0),
  floatAttribute('scale', scale),
  floatAttribute('softcap', softcap ?? 0),
];
