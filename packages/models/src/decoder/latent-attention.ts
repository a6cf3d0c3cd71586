import { type DecoderArchitecture, type LinearLayer, layerLinears, mixerOf } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  alias,
  concat,
  dispose,
  type FloatDType,
  gather,
  type SavedAttention,
  scope,
  split,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { built, type Listed } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import { type ActingAdapter, isTrained } from '../pass.js';
import { attentionSettings } from './attention.js';
import { type BlockContext, everywhere, type Sublayer } from './block.js';
import { LatentHeads } from './latent-heads.js';
import { branchGradient, listNormOfLayer, type Norm, normBranch, type SavedBranch } from './norm.js';
import { growQueries } from './query-key-step.js';

export interface LatentAttentionWeights {
  /**
   * The layers to the latent of queries, or to queries; and to the latent of keys and values, with the part of keys that positions turn
   * behind it.
   */
  inputs: LinearGroup;
  /** Null: there is no latent of queries. */
  query: LatentProjection | null;
  keyValue: LatentProjection;
  output: LinearGroup;
}

type SavedLatentAttention = {
  tokens: number;
  inputs: SavedLinear;
  query: SavedLatentProjection | null;
  keyValue: SavedLatentProjection;
  attention: SavedAttention;
  output: SavedLinear;
};

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): a small latent of each token, from which the keys and values of all
 * heads are projected, attention, and its output projection.
 */
export class LatentAttention implements Sublayer<SavedLatentAttention> {
  readonly settings: AttentionSettings;
  readonly rope: number;
  readonly keysOf: number;
  readonly mixesTokens = true;
  readonly #weights: LatentAttentionWeights;
  readonly #heads: LatentHeads;
  /** Numbers of what the input projections give: of queries, of the latent of keys and values, of the turned part of keys. */
  readonly #widths: readonly [query: number, keyValue: number, turnedKey: number];

  /** @param layer which of the decoder's layers it is in */
  constructor(architecture: DecoderArchitecture, layer: number, weights: LatentAttentionWeights) {
    const own = mixerOf(architecture, layer, 'latent');
    this.settings = attentionSettings(architecture, layer, own);
    this.rope = own.rope;
    this.keysOf = layer;
    this.#weights = weights;
    const { heads, headDim } = this.settings;
    const interleaved = architecture.ropes[this.rope]!.interleaved;
    this.#heads = new LatentHeads(own, { heads, headDim, interleaved });
    const queries = own.queryRank ?? heads * (own.plainDim + own.rotaryDim);
    this.#widths = [queries, own.keyValueRank, own.rotaryDim];
  }

  get groups(): readonly LinearGroup[] {
    const { inputs, query, keyValue, output } = this.#weights;
    return [inputs, ...(query === null ? [] : [query.group]), keyValue.group, output];
  }

  get computeDtype(): FloatDType {
    return this.#weights.inputs.linear.computeDtype;
  }

  /** Other tokens' keys and values are needed for a wanted token; what follows attention is computed for the wanted alone. */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedLatentAttention | null } {
    const { adapters, record, attend, wanted, queryFactors } = context;
    const projected = linearForward(this.#weights.inputs, x, adapters, record ? 'without-input' : 'none');
    const [ofQuery, ofKeyValue, turnedKey] = split(projected.output, this.#widths, 1);
    dispose(projected.output);
    const query = this.#weights.query?.forward(ofQuery!, adapters, record) ?? { output: ofQuery!, saved: null };
    const keyValue = this.#weights.keyValue.forward(ofKeyValue!, adapters, record);
    const qkv = this.#heads.joined({ query: query.output, keyValue: keyValue.output, turnedKey: turnedKey! });
    dispose([query.output, keyValue.output, turnedKey]);
    const grown = queryFactors === null ? qkv : growQueries(qkv, queryFactors, this.settings);
    const tokens = grown.shape[0]!;
    const attended = attend.forward(grown, this, record); // [tokens, heads x headDim]
    dispose(grown);
    const passed = this.#heads.values(attended.output); // [tokens, heads x valueDim]
    dispose(attended.output);
    const mixed = wanted === null ? passed : gather(passed, wanted.indices);
    if (wanted !== null) dispose(passed);
    const after = linearForward(this.#weights.output, mixed, wanted?.adapters ?? adapters, record ? 'all' : 'none'); // [wanted, hidden]
    const { saved: inputs } = projected;
    if (inputs === null || keyValue.saved === null || attended.saved === null || after.saved === null) {
      return { output: after.output, saved: null };
    }
    const parts = { query: query.saved, keyValue: keyValue.saved };
    return {
      output: after.output,
      saved: { tokens, inputs, ...parts, attention: attended.saved, output: after.saved },
    };
  }

  backward(
    gradient: Tensor,
    saved: SavedLatentAttention,
    { adapters, attend, wanted, queryFactors }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const { inputs, query, keyValue, output } = this.#weights;
    const wantLatents = wantInputGradient || isTrained(inputs, adapters);
    const ofLatents = query === null ? [keyValue] : [query, keyValue];
    const wantAttended = wantLatents || ofLatents.some(({ group }) => isTrained(group, adapters));
    const byOutput = linearBackward(output, gradient, saved.output, wanted?.adapters ?? adapters, wantAttended);
    if (byOutput === null) {
      dispose(saved);
      return null;
    }
    const byPassed = everywhere(byOutput, wanted, saved.tokens);
    const byAttended = this.#heads.widenedValues(byPassed);
    dispose(byPassed);
    const byGrown = attend.backward(byAttended, saved.attention, this);
    dispose(byAttended);
    const byQkv = queryFactors === null ? byGrown : growQueries(byGrown, queryFactors, this.settings);
    const by = this.#heads.parted(byQkv);
    dispose(byQkv);
    const byQuery = query === null ? by.query : query.backward(by.query, saved.query!, adapters, wantLatents);
    const byKeyValue = keyValue.backward(by.keyValue, saved.keyValue, adapters, wantLatents);
    if (byQuery === null || byKeyValue === null || !wantLatents) {
      dispose([byQuery, byKeyValue, by.turnedKey, saved.inputs]);
      return null;
    }
    const byProjected = scope(() => concat([byQuery, byKeyValue, by.turnedKey], 1));
    dispose([byQuery, byKeyValue, by.turnedKey]);
    return linearBackward(inputs, byProjected, saved.inputs, adapters, wantInputGradient, inputAgain);
  }

  /** Frees the weights. */
  dispose(): void {
    const { inputs, query, keyValue, output } = this.#weights;
    inputs.linear.dispose();
    query?.dispose();
    keyValue.dispose();
    output.linear.dispose();
  }
}

export function listLatentAttention(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
): Listed<LatentAttention> {
  const { names, norm } = architecture;
  const { normEpsilon: epsilon } = mixerOf(architecture, index, 'latent');
  const paths = names.latentAttention!;
  const { mixer } = layerLinears(architecture, index);
  const [ofKeyValue, ofQuery = null] = mixer.between.toReversed() as [LinearLayer, LinearLayer?];
  const projection = (path: string, layer: LinearLayer) => {
    const ofNorm = listNormOfLayer(list, { names, norm: { ...norm, epsilon } }, index, path);
    const own = { ofNorm, group: list.linearGroup([layer]) };
    return built(own, (read) => new LatentProjection(read.ofNorm, read.group));
  };
  const parts = {
    inputs: list.linearGroup(mixer.inputs),
    query: ofQuery && projection(paths.query!.norm, ofQuery),
    keyValue: projection(paths.keyValue.norm, ofKeyValue),
    output: list.linearGroup([mixer.output]),
  };
  return built(parts, (weights) => new LatentAttention(architecture, index, weights));
}

export type SavedLatentProjection = {
  latent: SavedBranch;
  linear: SavedLinear;
};

/** The norm of a latent, and a linear layer that reads what it gives. */
export class LatentProjection {
  readonly #norm: Norm;
  readonly group: LinearGroup;

  constructor(norm: Norm, group: LinearGroup) {
    this.#norm = norm;
    this.group = group;
  }

  /**
   * @param latent `[tokens, rank]`; taken over
   * @returns output `[tokens, out]`; saved is null without `record`
   */
  forward(
    latent: Tensor,
    adapters: readonly ActingAdapter[],
    record: boolean,
  ): { output: Tensor; saved: SavedLatentProjection | null } {
    const { output: normed, saved: kept } = normBranch(this.#norm, latent, record);
    const { output, saved } = linearForward(this.group, normed, adapters, record ? 'without-input' : 'none');
    return { output, saved: kept === null || saved === null ? null : { latent: kept, linear: saved } };
  }

  /**
   * Takes `gradient` over and frees what was saved.
   * @returns `[tokens, rank]` by the latent; null when it is not wanted
   */
  backward(
    gradient: Tensor,
    { latent, linear }: SavedLatentProjection,
    adapters: readonly ActingAdapter[],
    wantInputGradient: boolean,
  ): Tensor | null {
    const normedAgain = () => normBranch(this.#norm, alias(latent.input), false).output;
    const byNormed = linearBackward(this.group, gradient, linear, adapters, wantInputGradient, normedAgain);
    if (byNormed !== null) return branchGradient(this.#norm, byNormed, latent);
    dispose(latent);
    return null;
  }

  /** Frees the weights. */
  dispose(): void {
    this.#norm.dispose();
    this.group.linear.dispose();
  }
}
