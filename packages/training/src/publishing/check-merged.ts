import { checkFailed } from './check-failed.js';
import { rmsDifference, rmsSpread } from './log-probabilities.js';
import { type MergedLayer, MergedModel } from './merged-model.js';
import { checkFinite, compareProbe, type ProbeComparison, type ProbedAdapter } from './probe-comparison.js';
import type { ProbeOutputs } from './probe-run.js';
import type { RecordedAdapter } from './recorded-adapter.js';
import { mergedBound, roundingBound } from './rounding-bounds.js';

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
  const { base, adapter, probe, alone, adapted, turn } = probed;
  // In a model that amplifies rounding errors, log-probabilities may not show it.
  const missing = adapter.modules.filter((name) => !layers.has(name));
  if (missing.length > 0) throw checkFailed(`The merged model leaves out ${missing.join(', ')}.`);
  const asMerged = new MergedModel(recorded, layers);
  const [outputs] = await turn(probe.tokens / 2, () => {
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
