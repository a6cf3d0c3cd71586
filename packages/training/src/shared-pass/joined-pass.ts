import { ALL_LAYERS, type DropoutSeed, type LoraAdapter } from '@lorasmith/models';
import { dispose, keep, slice, type Tensor } from '@lorasmith/tensor';
import type { Batch } from '../batches.js';
import { cardFailure, isOutOfMemory } from '../engine-here.js';

/** A micro-batch of one job, for a pass. */
export interface MicroBatch {
  batch: Batch;
  /** It acts on the tokens of the batch alone. */
  adapter: LoraAdapter;
  dropoutSeed: DropoutSeed;
  /** See Pass in models. */
  recomputedLayers: number;
}

/** The results of a pass for one job's micro-batch. The tensors are the caller's to free. */
export interface OwnLoss {
  /** `[labels]` float32, still on the device: reading it waits for the whole pass. */
  losses: Tensor;
  /** `[labels]` float32: 1 for each label that the model ranks first, else 0 */
  correct: Tensor;
  /** The divisor of sums of losses and gradients; see PassLoss. */
  normaliser: number;
  /** See PassLoss. */
  figures?: readonly unknown[] | undefined;
  /** `[parameters]` float32 of the summed loss */
  gradient: Tensor;
}

/** True if one pass can run both: layers are computed again for both, or for neither. */
export function canJoin(one: MicroBatch, other: MicroBatch): boolean {
  return one.recomputedLayers > 0 === other.recomputedLayers > 0 && one.batch.canJoin(other.batch);
}

/**
 * Runs the micro-batches of several jobs in one pass: forward and backward. If the pass fails, for instance because its
 * memory ran out, each is run alone: then only those fail that cannot be run. One that is alone, and computes some layers again,
 * is run with all of them computed again when memory runs out.
 * @param onRetry called with the reason, and the micro-batches that failed, before they are run in such a way
 * @returns for each micro-batch what was computed, or with what it failed
 */
export function runJoined(
  microBatches: readonly MicroBatch[],
  onRetry: (reason: unknown, failed: readonly MicroBatch[]) => void,
): PromiseSettledResult<OwnLoss>[] {
  try {
    return run(microBatches).map((value) => ({ status: 'fulfilled', value }));
  } catch (reason) {
    for (const { adapter } of microBatches) adapter.dropGradient();
    // Nothing can be computed on a card that has failed.
    const others = cardFailure() === null ? waysWithLessMemory(microBatches, reason) : [];
    if (others.length === 0) return microBatches.map(() => ({ status: 'rejected', reason }));
    onRetry(reason, microBatches);
    return others.flatMap((one) => runJoined([one], onRetry));
  }
}

/** The micro-batches as each can be run alone after a failure; none where nothing is left to try. */
function waysWithLessMemory(microBatches: readonly MicroBatch[], reason: unknown): readonly MicroBatch[] {
  if (microBatches.length > 1) return microBatches;
  return microBatches
    .filter(({ recomputedLayers: layers }) => layers > 0 && layers < ALL_LAYERS && isOutOfMemory(reason))
    .map((one) => ({ ...one, recomputedLayers: ALL_LAYERS }));
}

function run(microBatches: readonly MicroBatch[]): OwnLoss[] {
  const [first, ...others] = microBatches as [MicroBatch, ...MicroBatch[]];
  const recomputedLayers = Math.max(...microBatches.map((one) => one.recomputedLayers));
  const results: OwnLoss[] = [];
  try {
    if (others.length === 0) {
      const { losses, correct, ...own } = first.batch.lossAndGradients({ adapters: [first], recomputedLayers });
      results.push({ ...own, ...keep({ losses, correct, gradient: first.adapter.takeGradient() }) });
      return results;
    }
    const joined = first.batch.join(others.map(({ batch }) => batch));
    const adapters = microBatches.map(({ adapter, dropoutSeed }, i) => {
      return { adapter, dropoutSeed, tokens: joined.tokens[i]! };
    });
    const { losses, correct, figures } = joined.batch.lossAndGradients({ adapters, recomputedLayers });
    for (const [i, { adapter }] of microBatches.entries()) {
      const { first: from, count } = joined.labels[i]!;
      const own = { losses: slice(losses, [from], [count]), correct: slice(correct, [from], [count]) };
      const ownFigures = figures?.slice(from, from + count);
      results.push({ ...keep({ ...own, gradient: adapter.takeGradient() }), normaliser: count, figures: ownFigures });
    }
    dispose([losses, correct]);
    return results;
  } catch (error) {
    dispose(results.map(({ losses, correct, gradient }) => [losses, correct, gradient]));
    throw error;
  }
}
