import { add, alias, cast, constant, dispose, multiply, scope, subtract, type Tensor } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import type { BlockContext } from './block.js';
import type { FeedForward, SavedFeedForward } from './feed-forward.js';
import { rowProducts, weightedRows } from './scaled-by.js';

export type SavedSharedExpert = {
  mlp: SavedFeedForward;
  /** null without a gate */
  gated: SavedGate | null;
};

type SavedGate = {
  /** `[tokens, hidden]` of the MLP */
  output: Tensor;
  gate: SavedLinear;
  /** `[tokens, 1]` float32 */
  factors: Tensor;
};

/** The expert that all tokens pass: `sigmoid(gate x) · mlp(x)`, without a gate `mlp(x)`. */
export class SharedExpert {
  readonly #mlp: FeedForward;
  readonly #gate: LinearGroup | null;

  /** @param gate one number of each token */
  constructor(mlp: FeedForward, gate: LinearGroup | null) {
    this.#mlp = mlp;
    this.#gate = gate;
  }

  get groups(): readonly LinearGroup[] {
    return this.#gate === null ? this.#mlp.groups : [...this.#mlp.groups, this.#gate];
  }

  /**
   * @param x `[tokens, hidden]`; taken over
   * @returns output `[tokens, hidden]`; saved is null without `record`
   */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSharedExpert | null } {
    const { adapters, record } = context;
    if (this.#gate === null) {
      const { output, saved } = this.#mlp.forward(x, context);
      return { output, saved: saved && { mlp: saved, gated: null } };
    }
    const mlp = this.#mlp.forward(alias(x), context);
    const gate = linearForward(this.#gate, x, adapters, record ? 'without-input' : 'none'); // [tokens, 1]
    const { activation } = this.#gate.linear.kernels.of('float32');
    const factors = scope(() => activation(cast(gate.output, 'float32'), 'sigmoid'));
    const output = weightedRows(mlp.output, factors);
    dispose(gate.output);
    if (mlp.saved === null || gate.saved === null) {
      dispose([mlp.output, factors]);
      return { output, saved: null };
    }
    return { output, saved: { mlp: mlp.saved, gated: { output: mlp.output, gate: gate.saved, factors } } };
  }

  /**
   * Takes `gradient` over and frees what was saved.
   * @returns `[tokens, hidden]` by x; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    { mlp, gated }: SavedSharedExpert,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    if (gated === null) return this.#mlp.backward(gradient, mlp, context, wantInputGradient, inputAgain);
    const { output, gate, factors } = gated;
    const byOutput = weightedRows(gradient, factors);
    const byGate = scope(() => {
      const slope = multiply(factors, subtract(constant(1), factors));
      return cast(multiply(rowProducts(gradient, output), slope), gradient.dtype);
    });
    dispose([gradient, output, factors]);
    const throughMlp = this.#mlp.backward(byOutput, mlp, context, wantInputGradient, inputAgain);
    const throughGate = linearBackward(this.#gate!, byGate, gate, context.adapters, wantInputGradient, inputAgain);
    if (throughMlp === null || throughGate === null) {
      dispose([throughMlp, throughGate]);
      return null;
    }
    const byInput = add(throughMlp, throughGate);
    dispose([throughMlp, throughGate]);
    return byInput;
  }

  /** Frees the weights. */
  dispose(): void {
    this.#mlp.dispose();
    this.#gate?.linear.dispose();
  }
}
