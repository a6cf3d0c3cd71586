import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  add,
  type BatchAttention,
  cast,
  dispose,
  type FloatDType,
  gather,
  type Normed,
  type SavedAttention,
  type StreamGradient,
  scatter,
  scope,
  type Tensor,
} from '@lorasmith/tensor';
import type { ProjectionSlot, Saved } from '../projection.js';
import { attentionSettings } from './attention.js';
import { branchGradient, normBranch, type SavedBranch } from './branch-norm.js';
import { mlpActivation, mlpActivationGradient } from './gated-mlp.js';
import { HeadNorm } from './head-norm.js';
import type { Norm } from './norm.js';
import { PartialRotary } from './partial-rotary.js';
import type { QueryKeyStep } from './query-key-step.js';
import { rotatedDimensions } from './rope-frequencies.js';

export interface DecoderLayerWeights {
  attentionNorm: Norm;
  queryKeyValue: ProjectionSlot;
  /** Of each head's query and key; null where a family has none. */
  headNorms: { query: Norm; key: Norm } | null;
  attentionOutput: ProjectionSlot;
  /** Of what attention adds to the stream. */
  attentionBranchNorm: Norm | null;
  mlpNorm: Norm;
  /** Up alone where the MLP has no gate. */
  gateUp: ProjectionSlot;
  down: ProjectionSlot;
  mlpBranchNorm: Norm | null;
}

/** The residual stream between two layers. Its last addition is left to the norm that follows: one pass does both. */
export interface Stream {
  /** `[tokens, hidden]` float32 */
  x: Tensor;
  /** `[tokens, hidden]` in the model's dtype, still to be added; null before the first layer */
  branch: Tensor | null;
}

/** `[tokens, hidden]` float32: the stream with its last addition made. */
export function streamSum({ x, branch }: Stream): Tensor {
  return branch === null ? x : scope(() => add(x, cast(branch, 'float32')));
}

/** What a layer keeps between its forward and its backward pass. */
export interface SavedLayer {
  /** `[tokens, hidden]` float32, input of the layer */
  input: Tensor;
  inputInverseRms: Tensor;
  queryKeyValue: Saved;
  /** One for each step. */
  queryKeySteps: (object | null)[];
  attention: SavedAttention;
  attentionOutput: Saved;
  attentionBranch: SavedBranch | null;
  /** As `forward` was given it. From here on, tensors have only these tokens. */
  places: Tensor | null;
  /** `[tokens, hidden]` float32, after attention; also the `x` of the stream the layer gives */
  middle: Tensor;
  middleInverseRms: Tensor;
  gateUp: Saved;
  /** `[tokens, 2 × intermediate]`, or half of it without a gate */
  gateUpOutput: Tensor;
  down: Saved;
  mlpBranch: SavedBranch | null;
}

/** Attention over `[tokens, (heads + 2 × keyValueHeads) × headDim]`, giving `[tokens, heads × headDim]`. */
export type Attend = (qkv: Tensor) => { output: Tensor; saved: SavedAttention | null };

/** One block of a decoder: norm, attention, residual; norm, MLP, residual. The residual stream is float32. */
export class DecoderLayer {
  readonly weights: DecoderLayerWeights;
  readonly attention: AttentionSettings;
  readonly #mlp: DecoderArchitecture['mlp'];
  readonly #queryKeySteps: readonly QueryKeyStep[];

  /** @param index which of the layers it is */
  constructor(architecture: DecoderArchitecture, index: number, weights: DecoderLayerWeights) {
    this.weights = weights;
    this.attention = attentionSettings(architecture, index);
    this.#mlp = architecture.mlp;
    this.#queryKeySteps = queryKeySteps(architecture, this.attention, weights);
  }

  get trained(): boolean {
    return this.slots.some((slot) => slot.projection.trained);
  }

  get slots(): ProjectionSlot[] {
    const { queryKeyValue, attentionOutput, gateUp, down } = this.weights;
    return [queryKeyValue, attentionOutput, gateUp, down];
  }

  /**
   * @param stream the caller's to free
   * @param attend what mixes the tokens; with `record` it must save
   * @param places `[n]` int32 of the only tokens that are wanted after the layer, each once; null: all. Attention needs the
   *   others' keys and values, what follows it does not.
   * @returns the stream after the layer; saved is null without `record`
   */
  forward(
    stream: Stream,
    attend: Attend,
    record: boolean,
    places: Tensor | null = null,
  ): { stream: Stream; saved: SavedLayer | null } {
    const { attentionNorm, queryKeyValue, attentionOutput, attentionBranchNorm } = this.weights;
    const { mlpNorm, gateUp, down, mlpBranchNorm } = this.weights;

    const normed = this.#inputNorm(stream, attentionNorm);
    const qkv = queryKeyValue.projection.forward(normed.output, record); // [tokens, (heads + 2 x kv) x headDim]
    if (qkv.saved === null) dispose(normed.output);
    const stepped = this.#stepForward(qkv.output, record);
    const attended = attend(stepped.output); // [tokens, heads x headDim]
    dispose(stepped.output);
    const mixed = places === null ? attended.output : gather(attended.output, places);
    if (places !== null) dispose(attended.output);
    const projected = attentionOutput.projection.forward(mixed, record); // [tokens, hidden]
    if (projected.saved === null) dispose(mixed);
    const attentionBranch = normBranch(attentionBranchNorm, projected.output, record);

    const residual = places === null ? normed.sum : gather(normed.sum, places);
    const middle = mlpNorm.addForward(residual, attentionBranch.output);
    dispose(attentionBranch.output);
    if (residual !== normed.sum) dispose(residual);
    const gateAndUp = gateUp.projection.forward(middle.output, record); // [tokens, 2 x intermediate]
    if (gateAndUp.saved === null) dispose(middle.output);
    const activated = mlpActivation(gateAndUp.output, this.#mlp); // [tokens, intermediate]
    if (!record) dispose(gateAndUp.output);
    const downProjected = down.projection.forward(activated, record); // [tokens, hidden]
    if (downProjected.saved === null) dispose(activated);
    const mlpBranch = normBranch(mlpBranchNorm, downProjected.output, record);

    const after: Stream = { x: middle.sum, branch: mlpBranch.output };
    if (!record || attended.saved === null) {
      if (normed.sum !== stream.x) dispose(normed.sum);
      dispose([normed.inverseRms, middle.inverseRms]);
      return { stream: after, saved: null };
    }
    const saved: SavedLayer = {
      input: normed.sum,
      inputInverseRms: normed.inverseRms,
      queryKeyValue: qkv.saved,
      queryKeySteps: stepped.saved,
      attention: attended.saved,
      attentionOutput: projected.saved,
      attentionBranch: attentionBranch.saved,
      places,
      middle: middle.sum,
      middleInverseRms: middle.inverseRms,
      gateUp: gateAndUp.saved,
      gateUpOutput: gateAndUp.output,
      down: downProjected.saved,
      mlpBranch: mlpBranch.saved,
    };
    return { stream: after, saved };
  }

  #inputNorm({ x, branch }: Stream, norm: Norm): Normed & { sum: Tensor } {
    if (branch !== null) return norm.addForward(x, branch);
    return { sum: x, ...norm.forward(x, this.weights.queryKeyValue.frozen.weight.dtype as FloatDType) };
  }

  /** Takes `qkv` over. */
  #stepForward(qkv: Tensor, record: boolean): { output: Tensor; saved: (object | null)[] } {
    let output = qkv;
    const saved = this.#queryKeySteps.map((step) => {
      const before = output;
      const result = step.forward(before, record);
      output = result.output;
      dispose(before);
      return result.saved;
    });
    return { output, saved };
  }

  /** Takes `gradient` over. */
  #stepBackward(gradient: Tensor, saved: readonly (object | null)[]): Tensor {
    return this.#queryKeySteps.reduceRight((byOutput, step, i) => {
      const byInput = step.backward(byOutput, saved[i]!);
      dispose(byOutput);
      return byInput;
    }, gradient);
  }

  /**
   * Frees `gradient` and everything saved, each as soon as it is used.
   * @param gradient `[tokens, hidden]` by the stream after the layer, of the tokens that it has
   * @returns by the stream before it; null when it is not wanted
   */
  backward(
    gradient: StreamGradient,
    saved: SavedLayer,
    attention: BatchAttention,
    wantInputGradient: boolean,
  ): StreamGradient | null {
    const { attentionNorm, queryKeyValue, attentionOutput, attentionBranchNorm } = this.weights;
    const { mlpNorm, gateUp, down, mlpBranchNorm } = this.weights;
    const wantAttention = wantInputGradient || queryKeyValue.projection.trained;
    const wantMiddle = wantAttention || attentionOutput.projection.trained;
    const wantGateUp = wantMiddle || gateUp.projection.trained;

    const downGradient = branchGradient(mlpBranchNorm, gradient.rounded, saved.mlpBranch);
    const activatedGradient = down.projection.backward(downGradient, saved.down, wantGateUp);
    dispose([downGradient, saved.down]);
    const gateUpGradient = activatedGradient && mlpActivationGradient(activatedGradient, saved.gateUpOutput, this.#mlp);
    dispose([activatedGradient, saved.gateUpOutput]);
    const middleNormedGradient = gateUpGradient && gateUp.projection.backward(gateUpGradient, saved.gateUp, wantMiddle);
    dispose([gateUpGradient, saved.gateUp]);
    const middleGradient =
      middleNormedGradient &&
      mlpNorm.gradient(middleNormedGradient, saved.middle, saved.middleInverseRms, gradient.exact);
    dispose([gradient.exact, middleNormedGradient, saved.middle, saved.middleInverseRms]);

    const projectedGradient =
      middleGradient && branchGradient(attentionBranchNorm, middleGradient.rounded, saved.attentionBranch);
    dispose(saved.attentionBranch);
    const attendedGradient =
      projectedGradient && attentionOutput.projection.backward(projectedGradient, saved.attentionOutput, wantAttention);
    dispose([projectedGradient, saved.attentionOutput]);
    const mixedGradient = attendedGradient && everywhere(attendedGradient, saved);
    const steppedGradient = mixedGradient && attention.backward(mixedGradient, saved.attention, this.attention);
    dispose([mixedGradient, saved.attention]);
    const qkvGradient = steppedGradient && this.#stepBackward(steppedGradient, saved.queryKeySteps);
    dispose(saved.queryKeySteps);
    const normedGradient =
      qkvGradient && queryKeyValue.projection.backward(qkvGradient, saved.queryKeyValue, wantInputGradient);
    dispose([qkvGradient, saved.queryKeyValue]);
    const residualGradient = middleGradient && everywhere(middleGradient.exact, saved);
    const inputGradient =
      normedGradient &&
      residualGradient &&
      attentionNorm.gradient(normedGradient, saved.input, saved.inputInverseRms, residualGradient);
    dispose([residualGradient, normedGradient, saved.input, saved.inputInverseRms]);
    return inputGradient;
  }

  /** Frees the weights. */
  dispose(): void {
    const { attentionNorm, headNorms, attentionBranchNorm, mlpNorm, mlpBranchNorm } = this.weights;
    dispose([attentionNorm, headNorms, attentionBranchNorm, mlpNorm, mlpBranchNorm]);
    for (const { frozen } of this.slots) dispose([frozen.weight, frozen.bias]);
  }
}

/** A gradient by the wanted tokens as one by all, zero elsewhere. Takes it over. */
function everywhere(gradient: Tensor, { places, input }: SavedLayer): Tensor {
  if (places === null) return gradient;
  const scattered = scatter(places, gradient, input.shape[0]!);
  dispose(gradient);
  return scattered;
}

function queryKeySteps(
  { rope, headDim }: DecoderArchitecture,
  shape: AttentionSettings,
  { headNorms }: DecoderLayerWeights,
): QueryKeyStep[] {
  const steps: QueryKeyStep[] = [];
  if (headNorms !== null) steps.push(new HeadNorm(shape, headNorms.query, headNorms.key));
  const rotated = rope === null ? headDim : rotatedDimensions(rope, headDim);
  if (rotated < headDim) steps.push(new PartialRotary(shape, rotated));
  return steps;
}
