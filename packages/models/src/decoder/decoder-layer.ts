import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { type AttentionSettings, add, cast, dispose, scope, type Tensor } from '@lorasmith/tensor';
import type { ProjectionSlot, Saved } from '../projection.js';
import { attentionGradient, attentionSettings, type RowLayout, type SavedAttention } from './attention.js';
import { swiGlu, swiGluGradient } from './gated-mlp.js';
import { addRmsNorm, type Normed, rmsNorm, rmsNormGradient, type StreamGradient } from './rms-norm.js';

export interface DecoderLayerWeights {
  /** `[hidden]` float32 */
  attentionNorm: Tensor;
  queryKeyValue: ProjectionSlot;
  attentionOutput: ProjectionSlot;
  /** `[hidden]` float32 */
  mlpNorm: Tensor;
  gateUp: ProjectionSlot;
  down: ProjectionSlot;
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
  attention: SavedAttention;
  attentionOutput: Saved;
  /** `[tokens, hidden]` float32, after attention; also the `x` of the stream the layer gives */
  middle: Tensor;
  middleInverseRms: Tensor;
  gateUp: Saved;
  /** `[tokens, 2 × intermediate]` */
  gateUpOutput: Tensor;
  down: Saved;
}

/** Attention over `[tokens, (heads + 2 × keyValueHeads) × headDim]`, giving `[tokens, heads × headDim]`. */
export type Attend = (qkv: Tensor) => { output: Tensor; saved: SavedAttention | null };

/** One block of a decoder: norm, attention, residual; norm, gated MLP, residual. The residual stream is float32. */
export class DecoderLayer {
  readonly weights: DecoderLayerWeights;
  readonly attention: AttentionSettings;
  readonly #architecture: DecoderArchitecture;

  constructor(architecture: DecoderArchitecture, weights: DecoderLayerWeights) {
    this.#architecture = architecture;
    this.weights = weights;
    this.attention = attentionSettings(architecture);
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
   * @returns the stream after the layer; saved is null without `record`
   */
  forward(stream: Stream, attend: Attend, record: boolean): { stream: Stream; saved: SavedLayer | null } {
    const { attentionNorm, queryKeyValue, attentionOutput, mlpNorm, gateUp, down } = this.weights;
    const { normEpsilon } = this.#architecture;

    const normed = this.#inputNorm(stream, attentionNorm);
    const qkv = queryKeyValue.projection.forward(normed.output, record); // [tokens, (heads + 2 x kv) x headDim]
    if (qkv.saved === null) dispose(normed.output);
    const attended = attend(qkv.output); // [tokens, heads x headDim]
    dispose(qkv.output);
    const projected = attentionOutput.projection.forward(attended.output, record); // [tokens, hidden]
    if (projected.saved === null) dispose(attended.output);

    const middle = addRmsNorm(normed.sum, projected.output, mlpNorm, normEpsilon);
    dispose(projected.output);
    const gateAndUp = gateUp.projection.forward(middle.output, record); // [tokens, 2 x intermediate]
    if (gateAndUp.saved === null) dispose(middle.output);
    const activated = swiGlu(gateAndUp.output); // [tokens, intermediate]
    if (!record) dispose(gateAndUp.output);
    const downProjected = down.projection.forward(activated, record); // [tokens, hidden]
    if (downProjected.saved === null) dispose(activated);

    const after: Stream = { x: middle.sum, branch: downProjected.output };
    if (!record || attended.saved === null) {
      if (normed.sum !== stream.x) dispose(normed.sum);
      dispose([normed.inverseRms, middle.inverseRms]);
      return { stream: after, saved: null };
    }
    const saved: SavedLayer = {
      input: normed.sum,
      inputInverseRms: normed.inverseRms,
      queryKeyValue: qkv.saved,
      attention: attended.saved,
      attentionOutput: projected.saved,
      middle: middle.sum,
      middleInverseRms: middle.inverseRms,
      gateUp: gateAndUp.saved,
      gateUpOutput: gateAndUp.output,
      down: downProjected.saved,
    };
    return { stream: after, saved };
  }

  #inputNorm({ x, branch }: Stream, weight: Tensor): Normed & { sum: Tensor } {
    const { normEpsilon } = this.#architecture;
    if (branch !== null) return addRmsNorm(x, branch, weight, normEpsilon);
    const dtype = this.weights.queryKeyValue.frozen.weight.dtype as 'float32' | 'bfloat16';
    return { sum: x, ...rmsNorm(x, weight, normEpsilon, dtype) };
  }

  /**
   * Frees `gradient` and everything saved, each as soon as it is used.
   * @param gradient `[tokens, hidden]` by the stream after the layer
   * @returns by the stream before it; null when it is not wanted
   */
  backward(
    gradient: StreamGradient,
    saved: SavedLayer,
    layout: RowLayout,
    wantInputGradient: boolean,
  ): StreamGradient | null {
    const { attentionNorm, queryKeyValue, attentionOutput, mlpNorm, gateUp, down } = this.weights;
    const wantAttention = wantInputGradient || queryKeyValue.projection.trained;
    const wantMiddle = wantAttention || attentionOutput.projection.trained;
    const wantGateUp = wantMiddle || gateUp.projection.trained;

    const activatedGradient = down.projection.backward(gradient.rounded, saved.down, wantGateUp);
    dispose([gradient.rounded, saved.down]);
    const gateUpGradient = activatedGradient && swiGluGradient(activatedGradient, saved.gateUpOutput);
    dispose([activatedGradient, saved.gateUpOutput]);
    const middleNormedGradient = gateUpGradient && gateUp.projection.backward(gateUpGradient, saved.gateUp, wantMiddle);
    dispose([gateUpGradient, saved.gateUp]);
    const middleGradient =
      middleNormedGradient &&
      rmsNormGradient(middleNormedGradient, saved.middle, mlpNorm, saved.middleInverseRms, gradient.exact);
    dispose([gradient.exact, middleNormedGradient, saved.middle, saved.middleInverseRms]);

    const attendedGradient =
      middleGradient &&
      attentionOutput.projection.backward(middleGradient.rounded, saved.attentionOutput, wantAttention);
    dispose([middleGradient?.rounded, saved.attentionOutput]);
    const qkvGradient =
      attendedGradient && attentionGradient(attendedGradient, saved.attention, layout, this.attention);
    dispose([attendedGradient, saved.attention]);
    const normedGradient =
      qkvGradient && queryKeyValue.projection.backward(qkvGradient, saved.queryKeyValue, wantInputGradient);
    dispose([qkvGradient, saved.queryKeyValue]);
    const inputGradient =
      normedGradient &&
      middleGradient &&
      rmsNormGradient(normedGradient, saved.input, attentionNorm, saved.inputInverseRms, middleGradient.exact);
    dispose([middleGradient?.exact, normedGradient, saved.input, saved.inputInverseRms]);
    return inputGradient;
  }
}
