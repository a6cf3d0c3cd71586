import type { GroupAdapter, LinearGroup, ModelAdapter } from '@lorasmith/models';
import { cast, scope, slice, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { spreadNumbers } from './spread-numbers.js';

/** Tokens that are recorded of a pass. */
const RECORDED_TOKENS = 8;

/** The first tokens of a pass at a group of linear layers. */
export interface RecordedGroup {
  tokens: number;
  /** `[tokens, in]` */
  input: Float32Array;
  /** `[tokens, out]` of the frozen layers with the adapter */
  output: Float32Array;
}

/** Computes as another adapter does, and records a few tokens of each group in its last pass. */
export class RecordedAdapter implements ModelAdapter {
  readonly #adapter: ModelAdapter;
  readonly #groups = new Map<LinearGroup, RecordedGroup>();

  constructor(adapter: ModelAdapter) {
    this.#adapter = adapter;
  }

  at(group: LinearGroup): GroupAdapter | null {
    const inner = this.#adapter.at(group);
    if (inner === null) return null;
    return {
      trained: false,
      forward: (x, base, { dropoutSeed }) => {
        const tokens = Math.min(RECORDED_TOKENS, x.shape[0]!);
        const input = firstTokens(x, tokens);
        const { output } = inner.forward(x, base, { record: false, dropoutSeed });
        this.#groups.set(group, { tokens, input, output: firstTokens(output, tokens) });
        return { output, saved: null };
      },
      backward: () => {
        throw new Error('a recorded pass is not trained through');
      },
    };
  }

  /**
   * The tokens that were recorded of a group. An expert that no token of the passes has chosen is computed with numbers of mean 0 and variance 1.
   * @throws Error where no pass with this adapter has reached the group, which has no expert
   */
  recordOf(group: LinearGroup): RecordedGroup {
    const record = this.#groups.get(group);
    if (record !== undefined) return record;
    const [module] = group.modules;
    const adapter = this.at(group);
    if (module?.expert === undefined || adapter === null) {
      throw new Error(`no pass has reached ${module?.name} with the adapter`);
    }
    const { linear } = group;
    const { inFeatures, computeDtype } = linear;
    const numbers = spreadNumbers(RECORDED_TOKENS * inFeatures);
    const x = scope(() => cast(tensorOf(numbers, [RECORDED_TOKENS, inFeatures]), computeDtype));
    const options = { record: false, dropoutSeed: null };
    adapter.forward(x, () => linear.forward(x), options).output.dispose();
    return this.#groups.get(group)!;
  }
}

function firstTokens(x: Tensor, count: number): Float32Array {
  return scope(() => toFloat32Array(slice(x, [0, 0], [count, -1])));
}
