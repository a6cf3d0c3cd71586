import {
  type DecoderArchitecture,
  isByKeyHead,
  type LinearAttention,
  layerLinears,
  linearAttentionSizes,
  mixerOf,
  tensorOfLayer,
} from '@lorasmith/model-folder';
import {
  cast,
  concat,
  type DeltaInputs,
  type DeltaSettings,
  dispose,
  type FloatDType,
  gather,
  type KernelSet,
  reshape,
  scope,
  split,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { built, type Listed, made } from '../loading/listed.js';
import type { WeightList } from '../loading/weight-list.js';
import { isTrained } from '../pass.js';
import { type BlockContext, everywhere, type Sublayer } from './block.js';
import { Norm } from './norm.js';
import type { RecurrentLayer } from './shared-tokens.js';

export interface GatedDeltaNetWeights {
  /** Queries, keys and values; the gate of the output; β; the decay. Or all of these by key head. */
  inputs: LinearGroup;
  /** `[mixed, taps]` float32 */
  convolution: Tensor;
  /** `[valueHeads]` float32 */
  decayLog: Tensor;
  /** `[valueHeads]` float32 */
  timeStepBias: Tensor;
  /** The norm of each head, of size valueHeadDim. */
  norm: Norm;
  output: LinearGroup;
}

type SavedGatedDeltaNet = {
  inputs: SavedLinear;
  /** `[tokens, mixed]`: queries, keys and values before the convolution, which is computed again */
  mixed: Tensor;
  /** `[tokens × valueHeads, valueHeadDim]` */
  gate: Tensor;
  /** `[tokens, 2 × valueHeads]` */
  betaAndDecay: Tensor;
  /** The states that the kernel keeps. */
  states: Tensor;
  /** `[tokens × valueHeads, valueHeadDim]`: what the rule gave, before the norm */
  remembered: Tensor;
  output: SavedLinear;
};

/**
 * Linear attention (Gated DeltaNet, Yang et al. 2024, arXiv:2412.06464): a causal convolution of queries, keys and values, the gated
 * delta rule, the norm of each head's output times silu of a gate, and the output projection.
 */
export class GatedDeltaNet implements Sublayer<SavedGatedDeltaNet>, RecurrentLayer {
  readonly mixesTokens = true;
  readonly settings: DeltaSettings;
  readonly taps: number;
  readonly mixedSize: number;
  readonly #weights: GatedDeltaNetWeights;
  readonly #order: KeyHeadOrder | null;

  /** @param isByKeyHead whether the inputs are two layers, whose numbers are grouped by key head */
  constructor(own: LinearAttention, isByKeyHead: boolean, weights: GatedDeltaNetWeights) {
    const { keyHeadCount, valueHeadCount, keyHeadDim, valueHeadDim } = own;
    this.settings = {
      keyHeads: keyHeadCount,
      valueHeads: valueHeadCount,
      keySize: keyHeadDim,
      valueSize: valueHeadDim,
    };
    this.taps = own.convolutionTaps;
    this.mixedSize = linearAttentionSizes(own).mixed;
    this.#weights = weights;
    this.#order = isByKeyHead ? new KeyHeadOrder(own) : null;
  }

  get groups(): readonly LinearGroup[] {
    return [this.#weights.inputs, this.#weights.output];
  }

  get computeDtype(): FloatDType {
    return this.#weights.inputs.linear.computeDtype;
  }

  get #kernels(): KernelSet {
    return this.#weights.inputs.linear.kernels;
  }

  /** Every token of a row changes its state; what follows the rule is computed for the wanted tokens alone. */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedGatedDeltaNet | null } {
    const { adapters, record, wanted } = context;
    const projected = linearForward(this.#weights.inputs, x, adapters, record ? 'without-input' : 'none');
    const kept = scope(() => {
      const byKind = this.#order === null ? projected.output : this.#order.byKind(projected.output);
      const [mixed, gate, betaAndDecay] = split(byKind, this.#widths, 1);
      const { remembered, states } = this.#remember(mixed!, betaAndDecay!, context);
      const ofHead = (numbers: Tensor) => reshape(numbers, [-1, this.settings.valueSize]);
      return {
        mixed: mixed!,
        gate: ofHead(gate!),
        betaAndDecay: betaAndDecay!,
        states,
        remembered: ofHead(remembered),
      };
    });
    dispose(projected.output);
    const gated = scope(() => {
      const all = reshape(this.#gateForward(kept.remembered, kept.gate), [kept.mixed.shape[0]!, -1]); // [tokens, values]
      return wanted === null ? all : gather(all, wanted.indices);
    });
    if (!record) dispose(kept);
    const after = linearForward(this.#weights.output, gated, wanted?.adapters ?? adapters, record ? 'all' : 'none'); // [wanted, hidden]
    if (projected.saved === null || after.saved === null || kept.states === null) {
      return { output: after.output, saved: null };
    }
    const saved = { ...kept, states: kept.states, inputs: projected.saved, output: after.saved };
    return { output: after.output, saved };
  }

  backward(
    gradient: Tensor,
    saved: SavedGatedDeltaNet,
    { adapters, wanted, recurrence }: BlockContext,
    wantInputGradient: boolean,
    inputAgain: () => Tensor,
  ): Tensor | null {
    const { inputs, output, convolution } = this.#weights;
    const wantGated = wantInputGradient || isTrained(inputs, adapters);
    const byGated = linearBackward(output, gradient, saved.output, wanted?.adapters ?? adapters, wantGated);
    if (byGated === null) {
      dispose(saved);
      return null;
    }
    const { mixed, betaAndDecay, states } = saved;
    const tokens = mixed.shape[0]!;
    const everywhereGated = everywhere(byGated, wanted, tokens);
    const byProjected = scope(() => {
      const { byRemembered, byGate } = this.#gateBackward(everywhereGated, saved);
      const kernels = this.#kernels.of(gradient.dtype);
      const { rows, shared } = recurrence;
      const ofRows = shared?.inRows(mixed) ?? mixed;
      const qkv = kernels.causalConvolution(ofRows, convolution, rows, null);
      const delta = this.#deltaInputs(qkv, betaAndDecay, recurrence);
      const byOutput = shared?.inStreamGradient(byRemembered) ?? byRemembered;
      const { byQkv, byBa } = kernels.gatedDelta.backward(byOutput, delta, states, this.settings);
      const byMixed = kernels.causalConvolutionGradient(byQkv, ofRows, convolution, rows);
      const ofStream = (gradient: Tensor) => shared?.inRowsGradient(gradient) ?? gradient;
      const byKind = concat([ofStream(byMixed), byGate, ofStream(byBa)], 1);
      return this.#order === null ? byKind : this.#order.byKeyHead(byKind);
    });
    dispose([everywhereGated, mixed, saved.gate, betaAndDecay, states, saved.remembered]);
    return linearBackward(inputs, byProjected, saved.inputs, adapters, wantInputGradient, inputAgain);
  }

  /** @returns remembered `[tokens, values]`; states is null without `record` */
  #remember(
    mixed: Tensor,
    betaAndDecay: Tensor,
    { recurrence, record }: BlockContext,
  ): { remembered: Tensor; states: Tensor | null } {
    const { causalConvolution, gatedDelta } = this.#kernels.of(mixed.dtype);
    const { rows, shared, memory } = recurrence;
    const before = memory?.before(this) ?? null;
    const ofRows = shared?.inRows(mixed) ?? mixed;
    const qkv = causalConvolution(ofRows, this.#weights.convolution, rows, before?.tail ?? null);
    const { output, kept, last } = gatedDelta.forward(this.#deltaInputs(qkv, betaAndDecay, recurrence), this.settings, {
      before: before?.state ?? null,
      record,
      keepLast: memory !== null,
    });
    memory?.after(this, mixed, last!);
    return { remembered: shared?.inStream(output) ?? output, states: kept };
  }

  /**
   * @param qkv `[row tokens, mixed]`
   * @param betaAndDecay `[tokens, 2 × valueHeads]`
   */
  #deltaInputs(qkv: Tensor, betaAndDecay: Tensor, { rows, shared }: BlockContext['recurrence']): DeltaInputs {
    const { decayLog, timeStepBias } = this.#weights;
    const ba = shared?.inRows(betaAndDecay) ?? betaAndDecay;
    return { qkv, ba, aLog: decayLog, dtBias: timeStepBias, rows };
  }

  /** `[tokens × valueHeads, valueHeadDim]` each: `norm(remembered) · silu(gate)` */
  #gateForward(remembered: Tensor, gate: Tensor): Tensor {
    const dtype = remembered.dtype as FloatDType;
    const { output } = this.#weights.norm.forward(cast(remembered, 'float32'), dtype);
    return this.#kernels.of(dtype).gatedUnit(concat([gate, output], 1), 'silu');
  }

  /** @returns `[tokens, values]`, by what the rule gave, and by the gate */
  #gateBackward(gradient: Tensor, saved: SavedGatedDeltaNet): { byRemembered: Tensor; byGate: Tensor } {
    const { norm } = this.#weights;
    const { valueSize } = this.settings;
    const tokens = gradient.shape[0]!;
    const dtype = gradient.dtype as FloatDType;
    const exact = cast(saved.remembered, 'float32');
    const { output, inverseRms } = norm.forward(exact, dtype);
    const both = concat([saved.gate, output], 1);
    const byBoth = this.#kernels.of(dtype).gatedUnitGradient(reshape(gradient, [-1, valueSize]), both, 'silu');
    const [byGate, byNormed] = split(byBoth, [valueSize, valueSize], 1);
    const byRemembered = norm.gradient(byNormed!, exact, inverseRms, null).rounded;
    return { byRemembered: reshape(byRemembered, [tokens, -1]), byGate: reshape(byGate!, [tokens, -1]) };
  }

  /** Parts of a token's projections: queries, keys and values; the gate; β and the decay. */
  get #widths(): [mixed: number, gate: number, betaAndDecay: number] {
    const { valueHeads, valueSize } = this.settings;
    return [this.mixedSize, valueHeads * valueSize, 2 * valueHeads];
  }

  dispose(): void {
    const { inputs, convolution, decayLog, timeStepBias, norm, output } = this.#weights;
    inputs.linear.dispose();
    dispose([convolution, decayLog, timeStepBias]);
    norm.dispose();
    output.linear.dispose();
  }
}

export function listGatedDeltaNet(
  list: WeightList,
  architecture: DecoderArchitecture,
  index: number,
): Listed<GatedDeltaNet> {
  const { names, norm } = architecture;
  const paths = names.linearAttention!;
  const own = mixerOf(architecture, index, 'linear');
  const { mixer } = layerLinears(architecture, index);
  const nameOf = (path: string) => tensorOfLayer(names, index, path);
  const read = (path: string) => list.tensor(nameOf(path), 'float32');
  const convolution = made({ filters: read(`${paths.convolution}.weight`) }, ({ filters }, give) => {
    const taps = give(scope(() => reshape(filters, [-1, own.convolutionTaps]))); // [mixed, taps]
    dispose(filters);
    return taps;
  });
  const parts = {
    inputs: list.linearGroup(mixer.inputs),
    convolution,
    decayLog: list.decays(nameOf(paths.decayLog)),
    timeStepBias: read(paths.timeStepBias),
    normWeight: read(`${paths.norm}.weight`),
    output: list.linearGroup([mixer.output]),
  };
  return built(parts, ({ normWeight, ...weights }) => {
    // Its weights are no offsets, whatever those of the other norms are.
    const ownNorm = new Norm(list.kernels, { ...norm, weightOffset: 0 }, normWeight, null);
    return new GatedDeltaNet(own, isByKeyHead(names), { ...weights, norm: ownNorm });
  });
}

/**
 * Order of the projections of linear attention that are fused by key head (Qwen3-Next): of each key head its query, its key, the
 * values and the gates of its value heads; then of each its β and its decays. Adapters have this order, as the files do.
 */
export class KeyHeadOrder {
  readonly #own: LinearAttention;

  constructor(own: LinearAttention) {
    this.#own = own;
  }

  /**
   * @param projected `[tokens, mixed + values + 2 × valueHeads]`, by key head
   * @returns the same numbers by kind: queries, keys, values, gates, β, decays
   */
  byKind(projected: Tensor): Tensor {
    return scope(() => {
      const halves = split(projected, this.#halves, 1);
      const parts = halves.flatMap((half, index) => {
        const widths = this.#widths[index]!;
        return split(reshape(half, [-1, sum(widths)]), widths, 1); // [tokens x key heads, width] each
      });
      return concat(
        parts.map((part) => reshape(part, [projected.shape[0]!, -1])),
        1,
      );
    });
  }

  /** Inverse of {@link byKind}, and so its gradient. */
  byKeyHead(parted: Tensor): Tensor {
    const heads = this.#own.keyHeadCount;
    return scope(() => {
      const widths = this.#widths.flat();
      const parts = split(
        parted,
        widths.map((width) => heads * width),
        1,
      ).map((part, index) => reshape(part, [-1, widths[index]!]));
      const count = this.#widths[0].length;
      const halves = [parts.slice(0, count), parts.slice(count)].map((half) => concat(half, 1));
      return concat(
        halves.map((half) => reshape(half, [parted.shape[0]!, -1])),
        1,
      );
    });
  }

  /** The numbers of a token in each of the two projections. */
  get #halves(): [mixedAndGate: number, betaAndDecay: number] {
    const { mixed, values } = linearAttentionSizes(this.#own);
    return [mixed + values, 2 * this.#own.valueHeadCount];
  }

  /** The numbers of each part that a key head has. */
  get #widths(): [mixedAndGate: number[], betaAndDecay: number[]] {
    const { keyHeadCount, keyHeadDim, valueHeadCount, valueHeadDim } = this.#own;
    const valueHeads = valueHeadCount / keyHeadCount;
    const values = valueHeads * valueHeadDim;
    return [
      [keyHeadDim, keyHeadDim, values, values],
      [valueHeads, valueHeads],
    ];
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
