import { type DecoderArchitecture, headsOf, layerLinears, mixerOf, tensorOfLayer } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  type BatchAttention,
  concat,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
  reshape,
  type SavedAttention,
  scope,
  split,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { built, type Listed } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import { isTrained, type Saved } from '../pass.js';
import { attentionSettings } from './attention.js';
import { type BlockContext, everywhere, type Sublayer } from './block.js';
import { listNormIfAny, unitNorm } from './norm.js';
import {
  growQueries,
  type HeadNorms,
  type HeadShape,
  QueryKeyNorm,
  type QueryKeyStep,
  RotaryOrder,
} from './query-key-step.js';
import { rotatedDimensions } from './rotary.js';
import { KeyValueSource } from './shared-keys-values.js';
import type { Attend } from './shared-tokens.js';

export interface SelfAttentionWeights {
  /** The projections of queries, keys and values that the layer has. */
  queryKeyValue: LinearGroup;
  /** Norms of queries and keys, and of values; null where a family has none. */
  headNorms: HeadNorms | null;
  /** `[heads]` float32; null where a family has none */
  sinks: Tensor | null;
  output: LinearGroup;
}

/**
 * Attention within the rows of a batch.
 * @param attentions one for each of the decoder's rotaries
 */
export function attendWithin(attentions: readonly BatchAttention[]): Attend {
  return {
    forward: (qkv, { settings, rope }, record) => attentions[rope]!.forward(qkv, settings, record),
    backward: (gradient, saved, { settings, rope }) => attentions[rope]!.backward(gradient, saved, settings),
  };
}

type SavedSelfAttention = {
  tokens: number;
  queryKeyValue: SavedLinear;
  /** One for each step. */
  queryKeySteps: readonly Saved[];
  attention: SavedAttention;
  /** `[tokens, 2 × heads × headDim]`, gate and attended; null without a gate */
  gated: Tensor | null;
  output: SavedLinear;
};

/** Queries, keys and values; what a family does to them; attention; its gate, if it has one; its output projection. */
export class SelfAttention implements Sublayer<SavedSelfAttention> {
  readonly settings: AttentionSettings;
  readonly rope: number;
  readonly mixesTokens = true;
  readonly #weights: SelfAttentionWeights;
  readonly #queryKeySteps: readonly QueryKeyStep[];
  readonly #gate: OutputGate | null;
  readonly #source: KeyValueSource;

  /** @param layer which of the decoder's layers it is in */
  constructor(architecture: DecoderArchitecture, layer: number, weights: SelfAttentionWeights) {
    const { ropes, attention } = architecture;
    const own = mixerOf(architecture, layer, 'attention');
    this.settings = attentionSettings(architecture, layer, { ...own, sinks: weights.sinks });
    this.#source = new KeyValueSource(architecture, layer, this.settings);
    const { headDim } = this.settings;
    const made = this.#source.isOwn ? this.settings : { ...this.settings, keyValueHeads: 0 };
    this.rope = own.rope;
    this.#weights = weights;
    const steps: QueryKeyStep[] = [];
    const { headNorms } = weights;
    if (headNorms !== null) steps.push(new QueryKeyNorm(made, attention.queryKeyNorm, headNorms));
    const rope = ropes[this.rope]!;
    if (rope !== null) {
      const rotated = rotatedDimensions(rope, headDim);
      const order = { rotated, interleaved: rope.interleaved };
      if (rotated < headDim || rope.interleaved) steps.push(new RotaryOrder(made, order));
    }
    this.#queryKeySteps = steps;
    const { kernels } = weights.queryKeyValue.linear;
    this.#gate = attention.outputGate === null ? null : new OutputGate(kernels, this.settings);
  }

  get groups(): readonly LinearGroup[] {
    return [this.#weights.queryKeyValue, this.#weights.output];
  }

  get keysOf(): number {
    return this.#source.owner;
  }

  get computeDtype(): FloatDType {
    return this.#weights.queryKeyValue.linear.computeDtype;
  }

  /** Other tokens' keys and values are needed for a wanted token; what follows attention is computed for the wanted alone. */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSelfAttention | null } {
    const { adapters, record, attend, wanted, queryFactors, sharedKeysAndValues } = context;
    const tokens = x.shape[0]!;
    const projected = linearForward(this.#weights.queryKeyValue, x, adapters, record ? 'without-input' : 'none');
    const { qkv, gate } = this.#takeGate(projected.output);
    const stepped = this.#stepForward(this.#source.withValues(qkv), record);
    const joined = this.#source.joined(stepped.output, sharedKeysAndValues); // [tokens, (heads + 2 x kv) x headDim]
    const grown = queryFactors === null ? joined : growQueries(joined, queryFactors, this.settings);
    const attended = attend.forward(grown, this, record); // [tokens, heads x headDim]
    dispose(grown);
    const { output: passed, both: gated } =
      gate === null ? { output: attended.output, both: null } : this.#gate!.forward(attended.output, gate);
    if (!record) dispose(gated);
    const mixed = wanted === null ? passed : gather(passed, wanted.indices);
    if (wanted !== null) dispose(passed);
    const after = linearForward(this.#weights.output, mixed, wanted?.adapters ?? adapters, record ? 'all' : 'none'); // [wanted, hidden]
    if (projected.saved === null || attended.saved === null || after.saved === null) {
      return { output: after.output, saved: null };
    }
    const saved = {
      tokens,
      queryKeyValue: projected.saved,
      queryKeySteps: stepped.saved,
      attention: attended.saved,
      gated,
      output: after.saved,
    };
    return { output: after.output, saved };
  }

  /** Takes `projected` over. */
  #takeGate(projected: Tensor): { qkv: Tensor; gate: Tensor | null } {
    if (this.#gate === null) return { qkv: projected, gate: null };
    const taken = this.#gate.taken(projected);
    dispose(projected);
    return taken;
  }

  backward(
    gradient: Tensor,
    saved: SavedSelfAttention,
    { adapters, attend, wanted, queryFactors, sharedKeysAndValues }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const { queryKeyValue, output } = this.#weights;
    const wantAttended = wantInputGradient || isTrained(queryKeyValue, adapters);
    const byOutput = linearBackward(output, gradient, saved.output, wanted?.adapters ?? adapters, wantAttended);
    if (byOutput === null) {
      dispose(saved);
      return null;
    }
    const byPassed = everywhere(byOutput, wanted, saved.tokens);
    const { byAttended, byGate } =
      saved.gated === null ? { byAttended: byPassed, byGate: null } : this.#gate!.backward(byPassed, saved.gated);
    const byGrown = attend.backward(byAttended, saved.attention, this);
    dispose(byAttended);
    const byJoined = queryFactors === null ? byGrown : growQueries(byGrown, queryFactors, this.settings);
    const byStepped = this.#source.parted(byJoined, sharedKeysAndValues);
    const byQkv = this.#source.withoutValues(this.#stepBackward(byStepped, saved.queryKeySteps));
    const byProjected = byGate === null ? byQkv : this.#gate!.given(byQkv, byGate);
    if (byGate !== null) dispose([byQkv, byGate]);
    return linearBackward(queryKeyValue, byProjected, saved.queryKeyValue, adapters, wantInputGradient, inputAgain);
  }

  /** Takes `qkv` over. */
  #stepForward(qkv: Tensor, record: boolean): { output: Tensor; saved: Saved[] } {
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
  #stepBackward(gradient: Tensor, saved: readonly Saved[]): Tensor {
    return this.#queryKeySteps.reduceRight((byOutput, step, i) => {
      const byInput = step.backward(byOutput, saved[i]!);
      dispose(byOutput);
      return byInput;
    }, gradient);
  }

  dispose(): void {
    const { queryKeyValue, headNorms, sinks, output } = this.#weights;
    queryKeyValue.linear.dispose();
    dispose(sinks);
    headNorms?.query.dispose();
    headNorms?.key?.dispose();
    headNorms?.value?.dispose();
    output.linear.dispose();
  }
}

export function listSelfAttention(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
): Listed<SelfAttention> {
  const { names, attention } = architecture;
  const hasOwnKeys = mixerOf(architecture, index, 'attention').keysAndValuesOf === undefined;
  const { mixer } = layerLinears(architecture, index);
  const { headDim } = headsOf(architecture, index);
  const isNormed = hasOwnKeys && attention.valueNorm !== null;
  const sinks = names.sinks === null ? null : tensorOfLayer(names, index, names.sinks);
  const parts = {
    query: listNormIfAny(list, architecture, index, names.queryNorm),
    key: listNormIfAny(list, architecture, index, hasOwnKeys ? names.keyNorm : null),
    value: isNormed ? unitNorm(list, architecture, headDim) : null,
    queryKeyValue: list.linearGroup(mixer.inputs),
    sinks: sinks === null ? null : list.tensor(sinks, 'float32'),
    output: list.linearGroup([mixer.output]),
  };
  return built(parts, ({ query, key, value, ...weights }) => {
    const headNorms = query && { query, key, value };
    return new SelfAttention(architecture, index, { ...weights, headNorms });
  });
}

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

  /** @returns `[tokens, heads × headDim]`, and the gate, concatenated with the attended, which the backward pass needs. Takes both over. */
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
