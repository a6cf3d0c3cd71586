import type { LoraAdapter } from '@lorasmith/lora';
import type { DropoutSeed } from '@lorasmith/models';
import { dispose, keep, slice, type Tensor } from '@lorasmith/tensor';
import type { Batch } from '../batches.js';
import { cardFailure } from '../engine-error.js';

/** A micro-batch of one job, for a pass. */
export interface MicroBatch {
  batch: Batch;
  /** It acts on the tokens of the batch alone. */
  adapter: LoraAdapter;
  dropoutSeed: DropoutSeed;
  /** See Pass in models. */
  recompute: boolean;
}

/** The results of a pass for one job's micro-batch. The tensors are the caller's to free. */
export interface OwnLoss {
  /** `[labels]` float32, still on the device: reading it waits for the whole pass. */
  losses: Tensor;
  /** `[labels]` float32: 1 for each label that the model ranks first, else 0 */
  correct: Tensor;
  /** The divisor of sums of losses and gradients; see PassLoss. */
  normaliser: number;
  /** `[parameters]` float32 of the summed loss */
  gradient: Tensor;
}

/** Whether one pass can run both. */
export function canJoin(one: MicroBatch, other: MicroBatch): boolean {
  return one.recompute === other.recompute && one.batch.canJoin(other.batch);
}

/**
 * Runs the micro-batches of several jobs in one pass: forward and backward. If the pass fails, for instance because its
 * memory ran out, each is run alone: then only those fail that cannot be run.
 * @param onApart called with the reason when each is run alone
 * @returns for each micro-batch what was computed, or with what it failed
 */
export function runJoined(
  microBatches: readonly MicroBatch[],
  onApart: (reason: unknown) => void,
): PromiseSettledResult<OwnLoss>[] {
  try {
    return run(microBatches).map((value) => ({ status: 'fulfilled', value }));
  } catch (reason) {
    for (const { adapter } of microBatches) adapter.dropGradient();
    // Nothing can be computed on a card that has failed.
    if (microBatches.length === 1 || cardFailure() !== null) {
      return microBatches.map(() => ({ status: 'rejected', reason }));
    }
    onApart(reason);
    return microBatches.flatMap((one) => runJoined([one], onApart));
  }
}

function run(microBatches: readonly MicroBatch[]): OwnLoss[] {
  const [first, ...others] = microBatches as [MicroBatch, ...MicroBatch[]];
  const { recompute } = first;
  const results: OwnLoss[] = [];
  try {
    if (others.length === 0) {
      const { losses, correct, normaliser } = first.batch.lossAndGradients({ adapters: [first], recompute });
      results.push(keep({ losses, correct, normaliser, gradient: first.adapter.takeGradient() }));
      return results;
    }
    const joined = first.batch.join(others.map(({ batch }) => batch));
    const adapters = microBatches.map(({ adapter, dropoutSeed }, i) => {
      return { adapter, dropoutSeed, tokens: joined.tokens[i]! };
    });
    const { losses, correct } = joined.batch.lossAndGradients({ adapters, recompute });
    for (const [i, { adapter }] of microBatches.entries()) {
      const { first: from, count } = joined.labels[i]!;
      const own = { losses: slice(losses, [from], [count]), correct: slice(correct, [from], [count]) };
      results.push(keep({ ...own, normaliser: count, gradient: adapter.takeGradient() }));
    }
    dispose([losses, correct]);
    return results;
  } catch (error) {
    dispose(results.map(({ losses, correct, gradient }) => [losses, correct, gradient]));
    throw error;
  }
}
