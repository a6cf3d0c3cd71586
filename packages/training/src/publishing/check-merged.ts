import type { GroupAdapter, LinearGroup, ModelAdapter } from '@lorasmith/models';
import { cast, scope, slice, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { rmsDifference, rmsSpread } from './log-probabilities.js';
import { type MergedLayer, MergedModel } from './merged-model.js';
import { checkFinite, compareProbe, type ProbeComparison, type ProbedAdapter } from './probe-comparison.js';
import type { ProbeOutputs } from './probe-run.js';
import { spreadNumbers } from './probe-texts.js';
import { checkFailed, mergedBound, roundingBound } from './rounding-bounds.js';

/**
 * Compares the merged model with base and adapter: which layers are merged, each of them with the adapted one, then the
 * log-probabilities.
 *
 * @param recorded - What merged layers are compared with. A pass has used it.
 * @param layers - By name.
 * @throws ProductError merge_not_finite, adapter_check_failed, non_finite_loss
 */
export async function checkMerged(
  probed: ProbedAdapter,
  recorded: RecordedAdapter,
  layers: ReadonlyMap<string, MergedLayer>,
): Promise<ProbeComparison> {
  const { base, adapter, probe, alone, adapted, inTimeSlice } = probed;
  // In a model that amplifies rounding errors, log-probabilities may not show it.
  const missing = adapter.modules.filter((name) => !layers.has(name));
  if (missing.length > 0) throw checkFailed(`The merged model leaves out ${missing.join(', ')}.`);
  const asMerged = new MergedModel(recorded, layers);
  const [outputs] = await inTimeSlice(probe.tokens / 2, () => {
    const results = probe.run([asMerged]) as [ProbeOutputs];
    asMerged.compareOthers(base.groups);
    return results;
  });
  checkFinite(outputs.logits, 'The merged model');
  const weights = [...new Set([...layers.values()].map(({ storedDtype }) => storedDtype))];
  const adapterDifference = rmsDifference(alone.logprobs, adapted.logprobs);
  const size = rmsSpread(alone.logits) + adapterDifference;
  const rounding = roundingBound(base.architecture, [base.dtype, ...weights], size);
  const bound = mergedBound(rounding, asMerged.rounding, adapterDifference);
  return await compareProbe(probed, { how: 'merged into its base', outputs, bound, weights });
}

/** Tokens that are recorded of a pass. */
const RECORDED_TOKENS = 8;

/** The first tokens of a pass at a group of linear layers. */
export interface RecordedGroup {
  tokens: number;
  /** `[tokens, in]` */
  input: Float32Array;
  /** `[tokens, out]` of the frozen layers with the adapter */
  output: Float32Array;
}

/** Computes as another adapter does, and records a few tokens of each group in its last pass. */
export class RecordedAdapter implements ModelAdapter {
  readonly #adapter: ModelAdapter;
  readonly #groups = new Map<LinearGroup, RecordedGroup>();

  constructor(adapter: ModelAdapter) {
    this.#adapter = adapter;
  }

  at(group: LinearGroup): GroupAdapter | null {
    const inner = this.#adapter.at(group);
    if (inner === null) return null;
    return {
      trained: false,
      forward: (x, base, { dropoutSeed }) => {
        const tokens = Math.min(RECORDED_TOKENS, x.shape[0]!);
        const input = firstTokens(x, tokens);
        const { output } = inner.forward(x, base, { record: false, dropoutSeed });
        this.#groups.set(group, { tokens, input, output: firstTokens(output, tokens) });
        return { output, saved: null };
      },
      backward: () => {
        throw new Error('a recorded pass is not trained through');
      },
    };
  }

  /**
   * The tokens that were recorded of a group. An expert that no token of the passes has chosen is computed with numbers of mean 0 and variance 1.
   * @throws Error where no pass with this adapter has reached the group, which has no expert
   */
  recordOf(group: LinearGroup): RecordedGroup {
    const record = this.#groups.get(group);
    if (record !== undefined) return record;
    const [module] = group.modules;
    const adapter = this.at(group);
    if (module?.expert === undefined || adapter === null) {
      throw new Error(`no pass has reached ${module?.name} with the adapter`);
    }
    const { linear } = group;
    const { inFeatures, computeDtype } = linear;
    const numbers = spreadNumbers(RECORDED_TOKENS * inFeatures);
    const x = scope(() => cast(tensorOf(numbers, [RECORDED_TOKENS, inFeatures]), computeDtype));
    const options = { record: false, dropoutSeed: null };
    adapter.forward(x, () => linear.forward(x), options).output.dispose();
    return this.#groups.get(group)!;
  }
}

function firstTokens(x: Tensor, count: number): Float32Array {
  return scope(() => toFloat32Array(slice(x, [0, 0], [count, -1])));
}
