import { add } from '../arithmetic.js';
import { concat, reshape, slice, split, transpose } from '../layout.js';
import { alias, dispose, keep, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import type { AttentionSettings } from './attention.js';
import { adjustScores, softmaxWithSinks } from './grouped-attention.js';
import {
  type CachedText,
  type CacheShape,
  type CacheStep,
  type KeyValueCache,
  PAGE_TOKENS,
} from './key-value-cache.js';
import { batchMatMul } from './product.js';
import { type RotaryAngles, type RotaryTable, rotaryTable, rotate } from './rotary.js';
import { MASKED } from './score-blocks.js';

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
