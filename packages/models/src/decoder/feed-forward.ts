import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { dispose, type FloatDType, type KernelSet, type Tensor } from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';

export interface FeedForwardWeights {
  /** Up alone where the MLP has no gate. */
  gateUp: LinearGroup;
  down: LinearGroup;
}

export type SavedFeedForward = {
  gateUp: SavedLinear;
  /** `[tokens, 2 × intermediate]`, or half of it without a gate */
  gateUpOutput: Tensor;
  down: SavedLinear;
};

/** Each token's MLP: up, with a gate in most families; activation; down. */
export class FeedForward implements Sublayer<SavedFeedForward> {
  readonly mixesTokens = false;
  readonly #mlp: DecoderArchitecture['mlp'];
  readonly #weights: FeedForwardWeights;

  constructor(mlp: DecoderArchitecture['mlp'], weights: FeedForwardWeights) {
    this.#mlp = mlp;
    this.#weights = weights;
  }

  get groups(): readonly LinearGroup[] {
    return [this.#weights.gateUp, this.#weights.down];
  }

  get computeDtype(): FloatDType {
    return this.#weights.gateUp.linear.computeDtype;
  }

  get #kernels(): KernelSet {
    return this.#weights.gateUp.linear.kernels;
  }

  forward(x: Tensor, { adapters, record }: BlockContext): { output: Tensor; saved: SavedFeedForward | null } {
    const recording = record ? 'without-input' : 'none';
    const gateUp = linearForward(this.#weights.gateUp, x, adapters, recording); // [tokens, 2 x intermediate]
    const activated = mlpActivation(this.#kernels, gateUp.output, this.#mlp); // [tokens, intermediate]
    if (!record) dispose(gateUp.output);
    const down = linearForward(this.#weights.down, activated, adapters, recording); // [tokens, hidden]
    if (gateUp.saved === null || down.saved === null) return { output: down.output, saved: null };
    const saved = { gateUp: gateUp.saved, gateUpOutput: gateUp.output, down: down.saved };
    return { output: down.output, saved };
  }

  backward(
    gradient: Tensor,
    saved: SavedFeedForward,
    { adapters }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const { gateUp, down } = this.#weights;
    const wantGateUp = wantInputGradient || isTrained(gateUp, adapters);
    const activatedAgain = () => mlpActivation(this.#kernels, saved.gateUpOutput, this.#mlp);
    const byActivated = linearBackward(down, gradient, saved.down, adapters, wantGateUp, activatedAgain);
    if (byActivated === null) {
      dispose(saved);
      return null;
    }
    const byGateUp = mlpActivationGradient(this.#kernels, byActivated, saved.gateUpOutput, this.#mlp);
    dispose([byActivated, saved.gateUpOutput]);
    return linearBackward(gateUp, byGateUp, saved.gateUp, adapters, wantInputGradient, inputAgain);
  }

  dispose(): void {
    for (const { linear } of this.groups) linear.dispose();
  }
}

/**
 * The operation of an MLP between its linear layers: the activation, with a gate that of the first half times the second half; or the
 * clamped unit.
 * @param gateUp `[tokens, 2 × intermediate]`: gate, then up; without a gate up alone; pairs of both for a clamped unit
 * @returns `[tokens, intermediate]`
 */
export function mlpActivation(
  set: KernelSet,
  gateUp: Tensor,
  { gated, activation, clampedAt }: DecoderArchitecture['mlp'],
): Tensor {
  const kernels = set.of(gateUp.dtype);
  if (clampedAt !== undefined) return kernels.clampedUnit(gateUp, clampedAt);
  return gated ? kernels.gatedUnit(gateUp, activation) : kernels.activation(gateUp, activation);
}

/**
 * Gradient of {@link mlpActivation} by its input.
 * @param gradient `[tokens, intermediate]`
 */
export function mlpActivationGradient(
  set: KernelSet,
  gradient: Tensor,
  gateUp: Tensor,
  { gated, activation, clampedAt }: DecoderArchitecture['mlp'],
): Tensor {
  const kernels = set.of(gateUp.dtype);
  if (clampedAt !== undefined) return kernels.clampedUnitGradient(gradient, gateUp, clampedAt);
  const gradientOf = gated ? kernels.gatedUnitGradient : kernels.activationGradient;
  return gradientOf(gradient, gateUp, activation);
}
