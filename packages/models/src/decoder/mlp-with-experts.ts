import { add, alias, dispose, type FloatDType, scope, type Tensor } from '@lorasmith/tensor';
import type { LinearGroup } from '../frozen-linear.js';
import type { Saved } from '../pass.js';
import type { BlockContext, Sublayer } from './block.js';
import { branchGradient, type Norm, normBranch, type SavedBranch } from './norm.js';
import { scaledBy } from './scaled-by.js';

/** A sublayer of the two, and the norm of what it gives. */
export interface NormedPart {
  sublayer: Sublayer;
  branchNorm: Norm;
}

type SavedPart = {
  sublayer: Saved;
  branch: SavedBranch | null;
};

type SavedBoth = { mlp: SavedPart; experts: SavedPart };

/**
 * An MLP and experts that read the same stream (Gemma 4): `norm₁(mlp(w · x)) + norm₂(experts(x))`. The norms of what both read differ in
 * their weights alone, so x is normed without any, and each multiplies it with its own.
 */
export class MlpWithExperts implements Sublayer<SavedBoth> {
  readonly mixesTokens = false;
  readonly #scale: Tensor;
  readonly #mlp: NormedPart;
  readonly #experts: NormedPart;

  /** @param scale `[hidden]` float32: the weights of the norm of what the MLP reads; taken over */
  constructor(scale: Tensor, mlp: NormedPart, experts: NormedPart) {
    this.#scale = scale;
    this.#mlp = mlp;
    this.#experts = experts;
  }

  get groups(): readonly LinearGroup[] {
    return [...this.#mlp.sublayer.groups, ...this.#experts.sublayer.groups];
  }

  get computeDtype(): FloatDType {
    return this.#mlp.sublayer.computeDtype;
  }

  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedBoth | null } {
    const mlp = forwardOf(this.#mlp, scaledBy(x, this.#scale), context);
    const experts = forwardOf(this.#experts, x, context);
    const output = add(mlp.output, experts.output);
    dispose([mlp.output, experts.output]);
    if (mlp.saved === null || experts.saved === null) return { output, saved: null };
    return { output, saved: { mlp: mlp.saved, experts: experts.saved } };
  }

  backward(
    gradient: Tensor,
    saved: SavedBoth,
    context: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const scaledAgain = () => scope(() => scaledBy(inputAgain(), this.#scale));
    const throughMlp = backwardOf(this.#mlp, alias(gradient), saved.mlp, context, wantInputGradient, scaledAgain);
    const throughExperts = backwardOf(this.#experts, gradient, saved.experts, context, wantInputGradient, inputAgain);
    if (throughMlp === null || throughExperts === null) {
      dispose([throughMlp, throughExperts]);
      return null;
    }
    const scaled = scaledBy(throughMlp, this.#scale);
    const byInput = add(scaled, throughExperts);
    dispose([throughMlp, scaled, throughExperts]);
    return byInput;
  }

  dispose(): void {
    dispose(this.#scale);
    for (const { sublayer, branchNorm } of [this.#mlp, this.#experts]) {
      sublayer.dispose();
      branchNorm.dispose();
    }
  }
}

/** Takes x over. */
function forwardOf(
  { sublayer, branchNorm }: NormedPart,
  x: Tensor,
  context: BlockContext,
): { output: Tensor; saved: SavedPart | null } {
  const { output, saved } = sublayer.forward(x, context);
  const branch = normBranch(branchNorm, output, context.record);
  return { output: branch.output, saved: saved === null ? null : { sublayer: saved, branch: branch.saved } };
}

/** Takes `gradient` over and frees what was saved. */
function backwardOf(
  { sublayer, branchNorm }: NormedPart,
  gradient: Tensor,
  saved: SavedPart,
  context: BlockContext,
  wantInputGradient: boolean,
  inputAgain: () => Tensor,
): Tensor | null {
  const byOutput = branchGradient(branchNorm, gradient, saved.branch);
  return sublayer.backward(byOutput, saved.sublayer, context, wantInputGradient, inputAgain);
}
