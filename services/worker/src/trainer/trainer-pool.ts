import type { ModelName } from '@lorasmith/contracts';
import type { TrainerOrder } from './messages.js';
import { isRetryable } from './trainer-failure.js';
import type { TrainCallbacks, TrainerProcess, TrainingResult } from './trainer-process.js';

export interface TrainerPoolOptions {
  fork: () => TrainerProcess;
  /** A trainer without a job is kept so long, with its base model in memory. @defaultValue 600 000 */
  idleMs: number;
  /**
   * A trainer is replaced after so much training, once a step is done. Its engine numbers tensors with 32 bits and never
   * uses a number again; at the fewest microseconds an op takes, about five, two hours are a third of what there is. The
   * rest is for the step, the evaluation or the checks of an adapter that it is at by then.
   * @defaultValue 7 200 000
   */
  recycleAfterMs: number;
}

export const DEFAULT_POOL_TIMES = { idleMs: 600_000, recycleAfterMs: 7_200_000 };

/** The trainer of the base model in use, one at a time: the next job on the same model finds it loaded. */
export interface TrainerPool {
  /** Process number of the trainer that there is now. */
  readonly trainerPid: number | undefined;
  /** Trains, in more than one trainer if it takes longer than one may live. */
  train(order: TrainerOrder, callbacks: TrainCallbacks): Promise<TrainingResult>;
  close(): Promise<void>;
}

export function createTrainerPool({ fork, idleMs, recycleAfterMs }: TrainerPoolOptions): TrainerPool {
  let warm: { trainer: TrainerProcess; baseModel: ModelName } | undefined;
  let idleTimer: NodeJS.Timeout | undefined;

  const endWarm = async () => {
    clearTimeout(idleTimer);
    const ending = warm?.trainer;
    warm = undefined;
    await ending?.end();
  };

  const trainerFor = async (baseModel: ModelName): Promise<TrainerProcess> => {
    clearTimeout(idleTimer);
    if (warm?.baseModel === baseModel && warm.trainer.usable && warm.trainer.trainedMs < recycleAfterMs) {
      return warm.trainer;
    }
    // The one before goes first: two base models at once may be more than memory holds.
    await endWarm();
    warm = { trainer: fork(), baseModel };
    return warm.trainer;
  };

  return {
    get trainerPid() {
      return warm?.trainer.usable ? warm.trainer.pid : undefined;
    },
    async train(order, { signal, onEvent }) {
      for (;;) {
        const trainer = await trainerFor(order.spec.base_model);
        const recycling = new AbortController();
        const timer = setTimeout(() => recycling.abort(), Math.max(0, recycleAfterMs - trainer.trainedMs));
        const result = await trainer.train(order, { signal, recycle: recycling.signal, onEvent });
        clearTimeout(timer);
        // A process in which something of ours went wrong is not trusted with another job.
        if (result.type === 'failed' && isRetryable(result.failure)) await endWarm();
        if (result.type === 'recycled' && !signal.aborted) continue;
        idleTimer = setTimeout(() => void endWarm(), idleMs);
        idleTimer.unref();
        // How a trainer that was told to stop came to its end matters no more.
        const isStopped = result.type === 'recycled' || (result.type !== 'finished' && signal.aborted);
        return isStopped ? { type: 'stopped', reason: signal.reason } : result;
      }
    },
    close: endWarm,
  };
}
