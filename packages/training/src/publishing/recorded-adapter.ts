import type { GroupAdapter, LinearGroup, ModelAdapter } from '@lorasmith/models';
import { scope, slice, type Tensor, toFloat32Array } from '@lorasmith/tensor';

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

  /** @throws Error where no pass with this adapter has reached the group */
  recordOf(group: LinearGroup): RecordedGroup {
    const record = this.#groups.get(group);
    if (record === undefined) throw new Error(`no pass has reached ${group.modules[0]?.name} with the adapter`);
    return record;
  }
}

function firstTokens(x: Tensor, count: number): Float32Array {
  return scope(() => toFloat32Array(slice(x, [0, 0], [count, -1])));
}
