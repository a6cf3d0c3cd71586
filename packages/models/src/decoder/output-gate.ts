import { concat, dispose, type KernelSet, reshape, scope, split, type Tensor } from '@lorasmith/tensor';
import type { HeadShape } from './query-key-step.js';

/**
 * The gate of each number of the attention's output: `attended · sigmoid(gate)`. The query projection has the gate of each head
 * behind its query.
 */
export class OutputGate {
  readonly #kernels: KernelSet;
  readonly #shape: HeadShape;

  constructor(kernels: KernelSet, shape: HeadShape) {
    this.#kernels = kernels;
    this.#shape = shape;
  }

  /**
   * @param projected `[tokens, heads × 2 headDim + 2 × keyValueHeads × headDim]`
   * @returns `[tokens, (heads + 2 × keyValueHeads) × headDim]`, and the gate `[tokens, heads × headDim]`
   */
  taken(projected: Tensor): { qkv: Tensor; gate: Tensor } {
    const { headDim } = this.#shape;
    return scope(() => {
      const tokens = projected.shape[0]!;
      const [queriesAndGates, keysAndValues] = split(projected, this.#widths, 1);
      const [query, gate] = split(reshape(queriesAndGates!, [-1, 2 * headDim]), [headDim, headDim], 1);
      return { qkv: concat([reshape(query!, [tokens, -1]), keysAndValues!], 1), gate: reshape(gate!, [tokens, -1]) };
    });
  }

  /** Gradient of {@link taken}. */
  given(byQkv: Tensor, byGate: Tensor): Tensor {
    const { heads, keyValueHeads, headDim } = this.#shape;
    return scope(() => {
      const tokens = byQkv.shape[0]!;
      const [byQuery, others] = split(byQkv, [heads * headDim, 2 * keyValueHeads * headDim], 1);
      const both = concat([reshape(byQuery!, [-1, headDim]), reshape(byGate, [-1, headDim])], 1);
      return concat([reshape(both, [tokens, -1]), others!], 1);
    });
  }

  /** @returns `[tokens, heads × headDim]`, and the gate beside the attended, which the backward pass needs. Takes both over. */
  forward(attended: Tensor, gate: Tensor): { output: Tensor; both: Tensor } {
    const both = concat([gate, attended], 1); // [tokens, 2 x heads x headDim]
    dispose([gate, attended]);
    return { output: this.#kernels.of(both.dtype).gatedUnit(both, 'sigmoid'), both };
  }

  /**
   * Gradient of {@link forward}. Takes both over.
   * @returns by the attended, and by the gate
   */
  backward(gradient: Tensor, both: Tensor): { byAttended: Tensor; byGate: Tensor } {
    const width = this.#shape.heads * this.#shape.headDim;
    const result = scope(() => {
      const byBoth = this.#kernels.of(gradient.dtype).gatedUnitGradient(gradient, both, 'sigmoid');
      const [byGate, byAttended] = split(byBoth, [width, width], 1);
      return { byAttended: byAttended!, byGate: byGate! };
    });
    dispose([gradient, both]);
    return result;
  }

  get #widths(): [queriesAndGates: number, keysAndValues: number] {
    const { heads, keyValueHeads, headDim } = this.#shape;
    return [2 * heads * headDim, 2 * keyValueHeads * headDim];
  }
}
