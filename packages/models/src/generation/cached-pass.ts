import { headsOf, layersWithKeys, stateBytesPerText } from '@lorasmith/model-folder';
import {
  alias,
  BYTES_PER_ELEMENT,
  type CachedText,
  type ChosenToken,
  cacheSizeBytes,
  concat,
  dispose,
  fill,
  gather,
  type KeyValueCache,
  keep,
  PAGE_TOKENS,
  reshape,
  rowsOf,
  scope,
  split,
  type Tensor,
  type TokenChoice,
  tensorOf,
  tokenRows,
} from '@lorasmith/tensor';
import type { Decoder } from '../decoder/decoder.js';
import type { OutputHead } from '../decoder/output-head.js';
import type { RecurrentLayer, RecurrentMemory, RecurrentState } from '../decoder/shared-tokens.js';
import { type ActingAdapter, adaptersAmong, type ModelAdapter } from '../pass.js';

/** The states of linear attention after the tokens of a text that are read; nothing for models without it. */
export class TextStates {
  readonly #byLayer = new Map<RecurrentLayer, RecurrentState>();

  /** The state of one row; undefined before the first token. */
  of(layer: RecurrentLayer): RecurrentState | undefined {
    return this.#byLayer.get(layer);
  }

  /** Takes over a state in the place of the one before. */
  set(layer: RecurrentLayer, state: RecurrentState): void {
    dispose(this.#byLayer.get(layer));
    this.#byLayer.set(layer, keep(state));
  }

  /** Continues from where another text is. */
  copyFrom(other: TextStates): void {
    this.clear();
    for (const [layer, { tail, state }] of other.#byLayer) {
      this.#byLayer.set(layer, keep({ tail: alias(tail), state: alias(state) }));
    }
  }

  /** Frees the states: the text is read from its start, or no more. */
  clear(): void {
    dispose([...this.#byLayer.values()]);
    this.#byLayer.clear();
  }
}

/** Some tokens of a text in a step. */
interface StatefulSpan {
  states: TextStates;
  /** Tokens of the text in this step. */
  tokens: number;
}

/** The states of the texts of a step. */
class StepStates implements RecurrentMemory {
  readonly #spans: readonly StatefulSpan[];

  constructor(spans: readonly StatefulSpan[]) {
    this.#spans = spans;
  }

  before(layer: RecurrentLayer): RecurrentState {
    return scope(() => {
      const states = this.#spans.map(({ states }) => states.of(layer) ?? zeros(layer));
      return {
        tail: concat(
          states.map(({ tail }) => tail),
          0,
        ),
        state: concat(
          states.map(({ state }) => state),
          0,
        ),
      };
    });
  }

  after(layer: RecurrentLayer, mixed: Tensor, state: Tensor): void {
    const counts = this.#spans.map(({ tokens }) => tokens);
    const states = split(
      state,
      counts.map(() => 1),
      0,
    );
    const read = split(mixed, counts, 0);
    for (const [i, span] of this.#spans.entries()) {
      span.states.set(layer, { tail: tailAfter(layer, span.states, read[i]!), state: states[i]! });
    }
    dispose(read);
  }
}

/** The state before the first token. */
function zeros({ settings, taps, mixedSize, computeDtype }: RecurrentLayer): RecurrentState {
  const { valueHeads, keySize, valueSize } = settings;
  return {
    tail: fill([1, taps - 1, mixedSize], 0, computeDtype),
    state: fill([1, valueHeads, keySize, valueSize], 0),
  };
}

/** The last tokens that the convolution has read, `[1, taps - 1, mixed]`. */
function tailAfter(layer: RecurrentLayer, states: TextStates, read: Tensor): Tensor {
  const { mixedSize, taps } = layer;
  return scope(() => {
    const { tail } = states.of(layer) ?? zeros(layer);
    const known = concat([reshape(tail, [-1, mixedSize]), read], 0);
    const last = rowsOf(known, { first: known.shape[0]! - (taps - 1), count: taps - 1 });
    return reshape(last, [1, taps - 1, mixedSize]);
  });
}

/** Tokens of a text that a pass reads. */
export interface TokenSpan extends CachedText {
  /** `[tokens]` */
  ids: Int32Array;
  adapter: ModelAdapter | null;
  /** Its states of linear attention after the tokens before these. */
  states: TextStates;
  /** Positions that a rope depending on the length is made for. */
  span: number;
}

/** Hidden states after some tokens, and what the model predicts there. Valid within {@link CachedDecoder.read}. */
export class Predictions {
  readonly #head: OutputHead;
  /** `[tokens, hidden]` in the model's dtype */
  readonly #hidden: Tensor;
  readonly #adapters: readonly ActingAdapter[];

  /** @param adapters on the hidden states */
  constructor(head: OutputHead, hidden: Tensor, adapters: readonly ActingAdapter[]) {
    this.#head = head;
    this.#hidden = hidden;
    this.#adapters = adapters;
  }

  /**
   * The tokens after some tokens, and their log-probabilities; null where logits are not finite.
   * @param tokens ascending
   * @param choices of each
   */
  choose(tokens: readonly number[], choices: readonly TokenChoice[]): (ChosenToken | null)[] {
    const { chunkSize, group } = this.#head;
    const { kernels } = group.linear;
    const chosen: (ChosenToken | null)[] = [];
    for (let first = 0; first < tokens.length; first += chunkSize) {
      const chunk = tokens.slice(first, first + chunkSize);
      scope(() => {
        const logits = this.#logits(chunk);
        chosen.push(...kernels.of(logits.dtype).sampleTokens(logits, choices.slice(first, first + chunkSize)));
      });
    }
    return chosen;
  }

  /** `[tokens, vocab]` */
  #logits(tokens: readonly number[]): Tensor {
    if (tokens.length === this.#hidden.shape[0]) {
      return this.#head.logits(this.#hidden, this.#adapters);
    }
    const kept = Int32Array.from(tokens);
    const hidden = gather(this.#hidden, tensorOf(kept, [kept.length]));
    return this.#head.logits(hidden, adaptersAmong(this.#adapters, kept));
  }
}

/** A decoder with a key-value cache. */
export class CachedDecoder {
  readonly decoder: Decoder;
  readonly #cache: KeyValueCache;
  /** The decoder's layers that the cache keeps keys and values of. */
  readonly #layers: readonly number[];

  /** @param pages of the cache */
  constructor(decoder: Decoder, pages: number) {
    this.decoder = decoder;
    this.#layers = layersWithKeys(decoder.architecture);
    this.#cache = decoder.kernels.of(decoder.dtype).keyValueCache({
      ...cacheShape(decoder, pages),
      windows: decoder.windows,
    });
  }

  /**
   * Reads the next tokens of some texts.
   * @param spans those with the same adapter next to each other
   * @param wanted the tokens, in the stream of all spans, whose predictions are used; ascending, at least one
   * @param use receives the predictions, in the order of `wanted`
   */
  read(spans: readonly TokenSpan[], wanted: Int32Array, use: (predictions: Predictions) => void): void {
    const { decoder } = this;
    scope(() => {
      const positions = spans.map(({ cached, tokens }) => Int32Array.from({ length: tokens }, (_, i) => cached + i));
      const texts = spans.map(({ span }, i) => ({ positions: positions[i]!, span }));
      const steps = decoder.rotaries.map((rotary) => this.#cache.step(spans, rotary.anglesOfTexts(texts)));
      const { hidden, adapters } = decoder.forwardWith(
        {
          attend: {
            forward: (qkv, layer) => ({
              // A layer that reads another's keys and values puts the same into the cache again.
              output: steps[layer.rope]!.attend(qkv, this.#layers.indexOf(layer.keysOf), layer.settings),
              saved: null,
            }),
            backward: () => {
              throw new Error('generation has no backward pass');
            },
          },
          recurrence: {
            rows: tokenRows(spans.map(({ tokens }) => tokens)),
            shared: null,
            memory: new StepStates(spans),
          },
        },
        { ids: joined(spans.map(({ ids }) => ids)), positions: joined(positions) },
        wanted,
        actingOn(spans),
      );
      use(new Predictions(decoder.head, hidden, adapters));
    });
  }

  /** Says that pages have nothing that is needed. */
  clear(pages: readonly number[]): void {
    this.#cache.clear(pages);
  }

  /** Frees the cache. The decoder is the caller's. */
  dispose(): void {
    this.#cache.dispose();
  }
}

/** Bytes that generation takes: a cache for `tokens` tokens, in whole pages, and the states of `texts` texts. */
export function cacheBytes(
  decoder: Pick<Decoder, 'architecture' | 'dtype'>,
  { tokens, texts }: { tokens: number; texts: number },
): number {
  const cache = cacheSizeBytes(cacheShape(decoder, Math.ceil(tokens / PAGE_TOKENS)));
  return cache + texts * stateBytesPerText(decoder.architecture, BYTES_PER_ELEMENT[decoder.dtype]);
}

function cacheShape({ architecture, dtype }: Pick<Decoder, 'architecture' | 'dtype'>, pages: number) {
  const layers = layersWithKeys(architecture).map((layer) => {
    const { keyValueHeadCount: keyValueHeads, headDim } = headsOf(architecture, layer);
    return { keyValueHeads, headDim };
  });
  return { layers, pages, dtype };
}

function joined(arrays: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** One adapter for neighbouring spans with the same one. */
function actingOn(spans: readonly TokenSpan[]): ActingAdapter[] {
  const acting: { adapter: ModelAdapter; tokens: { first: number; count: number } }[] = [];
  let first = 0;
  for (const { adapter, tokens } of spans) {
    const last = acting.at(-1);
    if (adapter !== null && last?.adapter === adapter) last.tokens.count += tokens;
    else if (adapter !== null) acting.push({ adapter, tokens: { first, count: tokens } });
    first += tokens;
  }
  return acting;
}
