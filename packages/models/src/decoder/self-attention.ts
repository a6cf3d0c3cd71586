import type { DecoderArchitecture } from '@lorasmith/model-folder';
import {
  type AttentionSettings,
  type BatchAttention,
  dispose,
  type FloatDType,
  gather,
  type SavedAttention,
  type Tensor,
} from '@lorasmith/tensor';
import { linearBackward, linearForward, type SavedLinear } from '../adapted-linear.js';
import type { LinearGroup } from '../frozen-linear.js';
import { isTrained, type Saved } from '../pass.js';
import type { Attend } from './attend.js';
import { attentionSettings } from './attention.js';
import { type BlockContext, everywhere, type Sublayer } from './block.js';
import { HeadNorm } from './head-norm.js';
import type { Norm } from './norm.js';
import { PartialRotary } from './partial-rotary.js';
import type { QueryKeyStep } from './query-key-step.js';
import { rotatedDimensions } from './rope-frequencies.js';

export interface SelfAttentionWeights {
  queryKeyValue: LinearGroup;
  /** Norms of each head's query and key; null where a family has none. */
  headNorms: { query: Norm; key: Norm } | null;
  output: LinearGroup;
}

/** Attention within the rows of a batch. */
export function attendWithin(attention: BatchAttention): Attend {
  return {
    forward: (qkv, { settings }, record) => attention.forward(qkv, settings, record),
    backward: (gradient, saved, { settings }) => attention.backward(gradient, saved, settings),
  };
}

type SavedSelfAttention = {
  tokens: number;
  queryKeyValue: SavedLinear;
  /** One for each step. */
  queryKeySteps: readonly Saved[];
  attention: SavedAttention;
  output: SavedLinear;
};

/** Queries, keys and values; what a family does to them; attention; its output projection. */
export class SelfAttention implements Sublayer<SavedSelfAttention> {
  readonly settings: AttentionSettings;
  readonly mixesTokens = true;
  readonly #weights: SelfAttentionWeights;
  readonly #queryKeySteps: readonly QueryKeyStep[];

  /** @param layer which of the decoder's layers it is in */
  constructor(architecture: DecoderArchitecture, layer: number, weights: SelfAttentionWeights) {
    const { rope, headDim } = architecture;
    this.settings = attentionSettings(architecture, layer);
    this.#weights = weights;
    const steps: QueryKeyStep[] = [];
    const { headNorms } = weights;
    if (headNorms !== null) steps.push(new HeadNorm(this.settings, headNorms.query, headNorms.key));
    const rotated = rope === null ? headDim : rotatedDimensions(rope, headDim);
    if (rotated < headDim) steps.push(new PartialRotary(this.settings, rotated));
    this.#queryKeySteps = steps;
  }

  get groups(): readonly LinearGroup[] {
    return [this.#weights.queryKeyValue, this.#weights.output];
  }

  get computeDtype(): FloatDType {
    return this.#weights.queryKeyValue.linear.computeDtype;
  }

  /** Other tokens' keys and values are needed for a wanted token; what follows attention is computed for the wanted alone. */
  forward(x: Tensor, context: BlockContext): { output: Tensor; saved: SavedSelfAttention | null } {
    const { adapters, record, attend, wanted } = context;
    const tokens = x.shape[0]!;
    const qkv = linearForward(this.#weights.queryKeyValue, x, adapters, record); // [tokens, (heads + 2 x kv) x headDim]
    const stepped = this.#stepForward(qkv.output, record);
    const attended = attend.forward(stepped.output, this, record); // [tokens, heads x headDim]
    dispose(stepped.output);
    const mixed = wanted === null ? attended.output : gather(attended.output, wanted.indices);
    if (wanted !== null) dispose(attended.output);
    const projected = linearForward(this.#weights.output, mixed, wanted?.adapters ?? adapters, record); // [wanted, hidden]
    if (qkv.saved === null || attended.saved === null || projected.saved === null) {
      return { output: projected.output, saved: null };
    }
    const saved = {
      tokens,
      queryKeyValue: qkv.saved,
      queryKeySteps: stepped.saved,
      attention: attended.saved,
      output: projected.saved,
    };
    return { output: projected.output, saved };
  }

  backward(
    gradient: Tensor,
    saved: SavedSelfAttention,
    { adapters, attend, wanted }: BlockContext,
    wantInputGradient: boolean,
  ): Tensor | null {
    const { queryKeyValue, output } = this.#weights;
    const wantAttended = wantInputGradient || isTrained(queryKeyValue, adapters);
    const byAttended = linearBackward(output, gradient, saved.output, wanted?.adapters ?? adapters, wantAttended);
    if (byAttended === null) {
      dispose(saved);
      return null;
    }
    const byMixed = everywhere(byAttended, wanted, saved.tokens);
    const byStepped = attend.backward(byMixed, saved.attention, this);
    dispose(byMixed);
    const byQkv = this.#stepBackward(byStepped, saved.queryKeySteps);
    return linearBackward(queryKeyValue, byQkv, saved.queryKeyValue, adapters, wantInputGradient);
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
    const { queryKeyValue, headNorms, output } = this.#weights;
    queryKeyValue.linear.dispose();
    headNorms?.query.dispose();
    headNorms?.key.dispose();
    output.linear.dispose();
  }
}
