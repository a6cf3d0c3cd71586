import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  add,
  alias,
  cast,
  constant,
  dispose,
  type FloatDType,
  type KernelSet,
  multiply,
  scope,
  subtract,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';
import { rowProducts, weightedRows } from './scaled-by.js';

interface FeedForwardWeights {
  /** Up alone where the MLP has no gate. */
  gateUp: LinearGroup;
  down: LinearGroup;
}

type SavedFeedForward = {
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
