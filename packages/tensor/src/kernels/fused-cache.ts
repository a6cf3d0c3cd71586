import { elementType, execute, floatAttribute, intAttribute } from '../execute.js';
import { fill } from '../layout.js';
import { dispose, keep, scope, type Tensor } from '../tensor.js';
import { onDevice, tensorOf } from '../transfer.js';
import type { AttentionSettings } from './attention.js';
import { hasAttentionKernel, sinksInput } from './fused-attention.js';
import {
  type CachedText,
  type CacheShape,
  type CacheStep,
  type KeyValueCache,
  PAGE_TOKENS,
  paddedHeadDim,
} from './key-value-cache.js';
import { PageCache } from './page-cache.js';
import type { RotaryAngles } from './rotary.js';

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
