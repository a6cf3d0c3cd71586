import type { Activation } from '@lorasmith/model-folder';
import { concat, dispose, type FloatDType, type KernelSet, scope, split, type Tensor } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';

export interface LayerInputBranchWeights {
  /** The projection of the stream to as many numbers as the layer's input has. */
  gate: LinearGroup;
  output: LinearGroup;
}

type SavedLayerInputBranch = {
  gate: SavedLinear;
  /** `[tokens, 2 × size]`: gate and input of the layer */
  both: Tensor;
  output: SavedLinear;
};

/** The gated input of a layer, which is added to the stream: `W_output(activation(W_gate x) · input)`. */
export class LayerInputBranch implements Sublayer<SavedLayerInputBranch> {
  readonly mixesTokens = false;
  readonly #layer: number;
  readonly #activation: Activation;
  readonly #weights: LayerInputBranchWeights;

  /** @param layer which of the decoder's layers it is in */
  constructor(layer: number, activation: Activation, weights: LayerInputBranchWeights) {
    this.#layer = layer;
    this.#activation = activation;
    this.#weights = weights;
  }

  get groups(): readonly LinearGroup[] {
    return [this.#weights.gate, this.#weights.output];
  }

  get computeDtype(): FloatDType {
    return this.#weights.gate.linear.computeDtype;
  }

  get #kernels(): KernelSet {
    return this.#weights.gate.linear.kernels;
  }

  forward(
    x: Tensor,
    { adapters, record, layerInputs }: BlockContext,
  ): { output: Tensor; saved: SavedLayerInputBranch | null } {
    const recording = record ? 'without-input' : 'none';
    const gate = linearForward(this.#weights.gate, x, adapters, recording); // [tokens, size]
    const both = concat([gate.output, layerInputs!.of(this.#layer)], 1); // [tokens, 2 x size]
    dispose(gate.output);
    const gated = this.#gated(both); // [tokens, size]
    if (!record) dispose(both);
    const output = linearForward(this.#weights.output, gated, adapters, recording); // [tokens, hidden]
    if (gate.saved === null || output.saved === null) return { output: output.output, saved: null };
    return { output: output.output, saved: { gate: gate.saved, both, output: output.saved } };
  }

  backward(
    gradient: Tensor,
    saved: SavedLayerInputBranch,
    { adapters, layerInputs }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const { gate, output } = this.#weights;
    const isInputLearned = layerInputs!.saved !== null;
    const wantGated = wantInputGradient || isTrained(gate, adapters) || isInputLearned;
    const gatedAgain = () => this.#gated(saved.both);
    const byGated = linearBackward(output, gradient, saved.output, adapters, wantGated, gatedAgain);
    if (byGated === null) {
      dispose(saved);
      return null;
    }
    const [byGate, byInput] = scope(() => {
      const byBoth = this.#kernels.of(byGated.dtype).gatedUnitGradient(byGated, saved.both, this.#activation);
      return split(byBoth, [byGated.shape[1]!, byGated.shape[1]!], 1);
    });
    dispose([byGated, saved.both]);
    if (isInputLearned) layerInputs!.setGradient(this.#layer, byInput!);
    else dispose(byInput);
    return linearBackward(gate, byGate!, saved.gate, adapters, wantInputGradient, inputAgain);
  }

  /** @param both `[tokens, 2 × size]` */
  #gated(both: Tensor): Tensor {
    return this.#kernels.of(both.dtype).gatedUnit(both, this.#activation);
  }

  dispose(): void {
    for (const { linear } of this.groups) linear.dispose();
  }
}
