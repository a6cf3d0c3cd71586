import { elementType, execute, floatAttribute, intAttribute } from '../execute.js';
import { fill } from '../layout.js';
import { dispose, keep, scope, type Tensor } from '../tensor.js';
import { tensorOf } from '../transfer.js';
import type { AttentionSettings } from './attention.js';
import { sinksInput } from './fused-attention.js';
import {
  type CachedText,
  type CacheShape,
  type CacheStep,
  type KeyValueCache,
  PAGE_TOKENS,
  paddedHeadDim,
} from './key-value-cache.js';
import type { RotaryAngles } from './rotary.js';

/** A cache of one tensor for each layer, made once. One op puts tokens into it, in place, and attends. */
export class FusedCache implements KeyValueCache {
  /** Keys and values of each layer, `[pages, keyValueHeads, 2, PAGE_TOKENS, padded headDim]`. How a page lies is the op's own business. */
  readonly #layers: readonly Tensor[];

  constructor({ layers, pages, dtype }: CacheShape) {
    this.#layers = layers.map(({ keyValueHeads, headDim }) =>
      keep(fill([pages, keyValueHeads, 2, PAGE_TOKENS, paddedHeadDim(headDim)], 0, dtype)),
    );
  }

  step(texts: readonly CachedText[], { cosine, sine }: RotaryAngles): CacheStep {
    const table = textTable(texts);
    return {
      attend: (qkv, layer, settings) => {
        return scope(() => {
          const inputs = [qkv, this.#layers[layer]!, table, cosine, sine, sinksInput(settings)];
          return execute('LorasmithCachedAttention', attributesOf(qkv, settings), inputs);
        });
      },
    };
  }

  /** The op clears a page when its first token comes. */
  clear(): void {}

  dispose(): void {
    dispose(this.#layers);
  }
}

/** `[texts, 3 + pages]` int32: the first token, how many, how many the cache has, the pages. */
function textTable(texts: readonly CachedText[]): Tensor {
  const columns = 3 + Math.max(...texts.map(({ pages }) => pages.length));
  const table = new Int32Array(texts.length * columns);
  let first = 0;
  for (const [row, { tokens, cached, pages }] of texts.entries()) {
    table.set([first, tokens, cached, ...pages], row * columns);
    first += tokens;
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
