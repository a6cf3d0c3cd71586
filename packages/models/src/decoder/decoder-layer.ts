import {
  alias,
  cast,
  constant,
  dispose,
  type FloatDType,
  multiply,
  type StreamGradient,
  scope,
  type Tensor,
} from '@lorasmith/tensor';
import type { LinearGroup } from '../frozen-linear.js';
import type { ActingAdapter } from '../pass.js';
import { type Block, type BlockContext, freeStream, type SavedBlock, type Stream, streamSum } from './block.js';

/** The tensors that a layer keeps for its backward pass: all that its blocks need, or the input to compute that from again. */
export type SavedLayer = { kind: 'blocks'; blocks: readonly SavedBlock[] } | { kind: 'input'; input: Tensor };

/** Some blocks of a decoder, of which it has many alike: attention, then feed-forward. The unit that is computed again. */
export class DecoderLayer {
  readonly blocks: readonly Block[];
  readonly #scale: number;

  /** @param scale the factor of the stream after the blocks */
  constructor(blocks: readonly Block[], scale = 1) {
    this.blocks = blocks;
    this.#scale = scale;
  }

  get groups(): readonly LinearGroup[] {
    return this.blocks.flatMap(({ sublayer }) => sublayer.groups);
  }

  isTrained(adapters: readonly ActingAdapter[]): boolean {
    return this.blocks.some((block) => block.isTrained(adapters));
  }

  /**
   * @param stream taken over
   * @param recompute keep the input only
   * @returns the stream after the layer; saved is null without `record`
   */
  forward(stream: Stream, context: BlockContext, recompute = false): { stream: Stream; saved: SavedLayer | null } {
    if (!context.record || !recompute) {
      const { stream: after, saved } = this.#forward(stream, context);
      return { stream: after, saved: context.record ? { kind: 'blocks', blocks: saved } : null };
    }
    const input = streamSum(stream);
    freeStream(stream, input);
    const start = { x: input, branch: null, ownsX: false };
    return { stream: this.#forward(start, { ...context, record: false }).stream, saved: { kind: 'input', input } };
  }

  #forward(stream: Stream, context: BlockContext): { stream: Stream; saved: SavedBlock[] } {
    let current = stream;
    const saved = this.blocks.flatMap((block, index) => {
      const result = block.forward(current, this.#contextOf(index, context));
      current = result.stream;
      return result.saved ?? [];
    });
    return { stream: this.#scaled(current), saved };
  }

  /** The stream times the factor of the layer. Takes it over. */
  #scaled(stream: Stream): Stream {
    if (this.#scale === 1) return stream;
    const x = scope(() => multiply(streamSum(stream), constant(this.#scale)));
    freeStream(stream);
    return { x, branch: null, ownsX: true };
  }

  /** Gradient of {@link #scaled}. Takes it over. */
  #scaledGradient({ exact, rounded }: StreamGradient): StreamGradient {
    if (this.#scale === 1) return { exact, rounded };
    const byBlocks = scope(() => {
      const scaled = multiply(exact, constant(this.#scale));
      return { exact: scaled, rounded: cast(alias(scaled), rounded.dtype as FloatDType) };
    });
    dispose([exact, rounded]);
    return byBlocks;
  }

  /**
   * Takes `gradient` over and frees what was saved.
   * @param gradient `[tokens, hidden]` by the stream after the layer, of the tokens that it has
   * @param context as forward had it
   * @returns by the stream before it; null when it is not wanted
   */
  backward(
    gradient: StreamGradient,
    saved: SavedLayer,
    context: BlockContext,
    wantInputGradient: boolean,
  ): StreamGradient | null {
    const kept = saved.kind === 'blocks' ? saved.blocks : this.#recomputed(saved.input, context);
    let current: StreamGradient | null = this.#scaledGradient(gradient);
    for (let index = kept.length - 1; index >= 0 && current !== null; index--) {
      const want = wantInputGradient || this.blocks.slice(0, index).some((block) => block.isTrained(context.adapters));
      current = this.blocks[index]!.backward(current, kept[index]!, this.#contextOf(index, context), want);
    }
    dispose(kept);
    return current;
  }

  /** The same numbers as the first time: dropout follows from its seed. */
  #recomputed(input: Tensor, context: BlockContext): readonly SavedBlock[] {
    const { stream, saved } = this.#forward({ x: input, branch: null, ownsX: true }, context);
    freeStream(stream);
    return saved;
  }

  /** Up to the last block that mixes tokens all are needed, from then on the wanted ones. */
  #contextOf(index: number, context: BlockContext): BlockContext {
    const { wanted } = context;
    if (wanted === null) return context;
    const lastMixing = this.blocks.findLastIndex(({ sublayer }) => sublayer.mixesTokens);
    if (index === lastMixing) return context;
    return { ...context, wanted: null, adapters: index > lastMixing ? wanted.adapters : context.adapters };
  }

  /** Frees the weights. */
  dispose(): void {
    for (const block of this.blocks) block.dispose();
  }
}
