import type { Activation } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  concat,
  constant,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
  multiply,
  reshape,
  scope,
  split,
  type Tensor,
  tensorOf,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained } from '../pass.js';
import { type BlockContext, everywhere, type Sublayer } from './block.js';
import type { Norm } from './norm.js';
import { PassLayerInputs } from './pass-layer-inputs.js';

interface LayerInputWeights {
  /** `[vocab, layers × size]` in the model's dtype */
  embedding: Tensor;
  /** The projection of an embedded token to the inputs of all layers. */
  projection: LinearGroup;
  /** The norm of a layer's part of the projection. */
  norm: Norm;
}

/** The factor of the sum of both parts of an input. */
const SUM_SCALE = Math.SQRT1_2;

/**
 * The numbers of a token that each layer reads in addition to the residual stream: `(√size · embedding + norm(W x / √hidden)) / √2`, of an embedding of the
 * token for the layer and the embedded token x (per-layer embeddings of Gemma 3n and Gemma 4).
 */
export class LayerInputs {
  readonly #weights: LayerInputWeights;
  readonly #layerCount: number;

  constructor(weights: LayerInputWeights, layerCount: number) {
    this.#weights = weights;
    this.#layerCount = layerCount;
  }

  get group(): LinearGroup {
    return this.#weights.projection;
  }

  /**
   * @param ids `[tokens]`
   * @param x `[tokens, hidden]` float32, the embedded tokens
   * @param context the adapters on all tokens; the tokens that the last layer gives
   */
  forward(
    ids: Int32Array,
    x: Tensor,
    { adapters, record, wanted }: Pick<BlockContext, 'adapters' | 'record' | 'wanted'>,
  ): PassLayerInputs {
    const { embedding, projection, norm } = this.#weights;
    const dtype = projection.linear.computeDtype;
    const isLearned = record && isTrained(projection, adapters);
    const { inputs, saved } = scope(() => {
      const projected = linearForward(projection, cast(alias(x), dtype), adapters, isLearned ? 'all' : 'none'); // [tokens, layers x size]
      const scaled = this.#byLayer(multiply(cast(projected.output, 'float32'), constant(x.shape[1]! ** -0.5)));
      const normed = norm.forward(scaled, 'float32'); // [tokens x layers, size]
      const own = this.#byLayer(cast(gather(embedding, tensorOf(ids, [ids.length])), 'float32'));
      const embedded = multiply(own, constant(Math.sqrt(own.shape[1]!)));
      const all = cast(multiply(add(normed.output, embedded), constant(SUM_SCALE)), dtype);
      const inputs = split(reshape(all, [ids.length, -1]), this.#sizes(own.shape[1]!), 1);
      if (wanted !== null) inputs.push(gather(inputs.pop()!, wanted.indices));
      const kept = { projection: projected.saved!, scaled, inverseRms: normed.inverseRms };
      return { inputs, saved: isLearned ? kept : null };
    });
    return new PassLayerInputs(inputs, saved);
  }

  /** The adapters of the projection take up their gradients. Frees the layer inputs of the pass. */
  backward({ layerInputs: pass, adapters, wanted }: BlockContext): void {
    if (pass === null) return;
    const { saved } = pass;
    if (saved !== null) {
      const { projection, norm } = this.#weights;
      const byProjected = scope(() => {
        const gradients = pass.takeGradients();
        gradients.push(everywhere(gradients.pop()!, wanted, saved.scaled.shape[0]! / this.#layerCount));
        const byInputs = this.#byLayer(cast(concat(gradients, 1), 'float32'));
        const byNormed = multiply(byInputs, constant(SUM_SCALE));
        const byScaled = norm.gradient(byNormed, saved.scaled, saved.inverseRms, null).exact;
        const exact = multiply(byScaled, constant(projection.linear.inFeatures ** -0.5));
        return cast(reshape(exact, [-1, projection.linear.outFeatures]), projection.linear.computeDtype as FloatDType);
      });
      dispose([saved.scaled, saved.inverseRms]);
      linearBackward(projection, byProjected, saved.projection, adapters, false);
    }
    pass.dispose();
  }

  /** `[tokens, layers × size]` → `[tokens × layers, size]` */
  #byLayer(x: Tensor): Tensor {
    return reshape(x, [-1, x.shape[1]! / this.#layerCount]);
  }

  #sizes(size: number): number[] {
    return new Array(this.#layerCount).fill(size);
  }

  /** Frees the weights. */
  dispose(): void {
    const { embedding, projection, norm } = this.#weights;
    embedding.dispose();
    projection.linear.dispose();
    norm.dispose();
  }
}

interface LayerInputBranchWeights {
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
