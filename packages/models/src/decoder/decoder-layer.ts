import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { add, cast, dispose, scope, type Tensor } from '@lorasmith/tensor';
import type { ProjectionSlot, Saved } from '../projection.js';
import { attention, attentionGradient, type SavedAttention } from './attention.js';
import { swiGlu, swiGluGradient } from './gated-mlp.js';
import { rmsNorm, rmsNormGradient } from './rms-norm.js';
import type { RowGroup } from './row-groups.js';

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

/** What a layer keeps between its forward and its backward pass. All tensors but `dtype`-typed ones are float32. */
export interface SavedLayer {
  /** `[tokens, hidden]` input of the layer */
  input: Tensor;
  inputInverseRms: Tensor;
  queryKeyValue: Saved;
  attention: SavedAttention[];
  attentionOutput: Saved;
  /** `[tokens, hidden]` after attention */
  middle: Tensor;
  middleInverseRms: Tensor;
  gateUp: Saved;
  /** `[tokens, 2 × intermediate]` */
  gateUpOutput: Tensor;
  down: Saved;
}

/** One block of a decoder: norm, attention, residual; norm, gated MLP, residual. The residual stream is float32. */
export class DecoderLayer {
  readonly weights: DecoderLayerWeights;
  readonly #architecture: DecoderArchitecture;

  constructor(architecture: DecoderArchitecture, weights: DecoderLayerWeights) {
    this.#architecture = architecture;
    this.weights = weights;
  }

  get trained(): boolean {
    return this.slots.some((slot) => slot.projection.trained);
  }

  get slots(): ProjectionSlot[] {
    const { queryKeyValue, attentionOutput, gateUp, down } = this.weights;
    return [queryKeyValue, attentionOutput, gateUp, down];
  }

  /**
   * @param x `[tokens, hidden]` float32; freed unless it is saved
   * @returns `[tokens, hidden]` float32
   */
  forward(x: Tensor, groups: readonly RowGroup[], record: boolean): { output: Tensor; saved: SavedLayer | null } {
    const { attentionNorm, queryKeyValue, attentionOutput, mlpNorm, gateUp, down } = this.weights;
    const { normEpsilon } = this.#architecture;
    const dtype = queryKeyValue.frozen.weight.dtype as 'float32' | 'bfloat16';

    const normed = rmsNorm(x, attentionNorm, normEpsilon, dtype);
    const qkv = queryKeyValue.projection.forward(normed.output, record); // [tokens, (heads + 2 x kv) x headDim]
    if (qkv.saved === null) dispose(normed.output);
    const attended = attention(qkv.output, groups, this.#architecture, record); // [tokens, heads x headDim]
    dispose(qkv.output);
    const projected = attentionOutput.projection.forward(attended.output, record); // [tokens, hidden]
    if (projected.saved === null) dispose(attended.output);
    const middle = scope(() => add(x, cast(projected.output, 'float32')));
    dispose(projected.output);

    const middleNormed = rmsNorm(middle, mlpNorm, normEpsilon, dtype);
    const gateAndUp = gateUp.projection.forward(middleNormed.output, record); // [tokens, 2 x intermediate]
    if (gateAndUp.saved === null) dispose(middleNormed.output);
    const activated = swiGlu(gateAndUp.output); // [tokens, intermediate]
    if (!record) dispose(gateAndUp.output);
    const downProjected = down.projection.forward(activated, record); // [tokens, hidden]
    if (downProjected.saved === null) dispose(activated);
    const output = scope(() => add(middle, cast(downProjected.output, 'float32')));
    dispose(downProjected.output);

    if (!record) {
      dispose([x, middle, normed.inverseRms, middleNormed.inverseRms]);
      return { output, saved: null };
    }
    const saved: SavedLayer = {
      input: x,
      inputInverseRms: normed.inverseRms,
      queryKeyValue: qkv.saved,
      attention: attended.saved,
      attentionOutput: projected.saved,
      middle,
      middleInverseRms: middleNormed.inverseRms,
      gateUp: gateAndUp.saved,
      gateUpOutput: gateAndUp.output,
      down: downProjected.saved,
    };
    return { output, saved };
  }

  /**
   * Frees `gradient` and everything saved, each as soon as it is used.
   * @param gradient `[tokens, hidden]` float32, by the layer's output
   * @returns by the layer's input; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    saved: SavedLayer,
    groups: readonly RowGroup[],
    wantInputGradient: boolean,
  ): Tensor | null {
    const { attentionNorm, queryKeyValue, attentionOutput, mlpNorm, gateUp, down } = this.weights;
    const dtype = queryKeyValue.frozen.weight.dtype;
    const wantAttention = wantInputGradient || queryKeyValue.projection.trained;
    const wantMiddle = wantAttention || attentionOutput.projection.trained;
    const wantGateUp = wantMiddle || gateUp.projection.trained;

    const activatedGradient = scope(() => down.projection.backward(cast(gradient, dtype), saved.down, wantGateUp));
    dispose(saved.down);
    const gateUpGradient = activatedGradient && swiGluGradient(activatedGradient, saved.gateUpOutput);
    dispose([activatedGradient, saved.gateUpOutput]);
    const middleNormedGradient = gateUpGradient && gateUp.projection.backward(gateUpGradient, saved.gateUp, wantMiddle);
    dispose([gateUpGradient, saved.gateUp]);
    const middleGradient =
      middleNormedGradient &&
      scope(() => add(gradient, rmsNormGradient(middleNormedGradient, saved.middle, mlpNorm, saved.middleInverseRms)));
    dispose([gradient, middleNormedGradient, saved.middle, saved.middleInverseRms]);

    const attendedGradient =
      middleGradient &&
      scope(() =>
        attentionOutput.projection.backward(cast(middleGradient, dtype), saved.attentionOutput, wantAttention),
      );
    dispose(saved.attentionOutput);
    const qkvGradient =
      attendedGradient && attentionGradient(attendedGradient, saved.attention, groups, this.#architecture);
    dispose([attendedGradient, saved.attention]);
    const normedGradient =
      qkvGradient && queryKeyValue.projection.backward(qkvGradient, saved.queryKeyValue, wantInputGradient);
    dispose([qkvGradient, saved.queryKeyValue]);
    const inputGradient =
      normedGradient &&
      middleGradient &&
      scope(() =>
        add(middleGradient, rmsNormGradient(normedGradient, saved.input, attentionNorm, saved.inputInverseRms)),
      );
    dispose([middleGradient, normedGradient, saved.input, saved.inputInverseRms]);
    return inputGradient;
  }
}
