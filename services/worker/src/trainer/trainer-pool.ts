import type { ModelName } from '@lorasmith/contracts';
import { unlessStopped } from '../stop-signal.js';
import type { TrainerOrder } from './messages.js';
import { isRetryable } from './trainer-failure.js';
import type { RunOptions, RunResult, TrainerProcess, TrainerRunResult } from './trainer-process.js';

export interface TrainerPoolOptions {
  start: () => TrainerProcess;
  /** How long a trainer without a run is kept, with its base model in memory. @defaultValue 600 000 */
  idleMs: number;
  /**
   * A trainer is replaced after so much training, once a step is done. Its engine numbers tensors with 32 bits and never
   * reuses a number; at five microseconds an op, which is the fewest, two hours use a third of them. The rest is for the
   * step, the evaluation or the checks of an adapter that it is at by then.
   * @defaultValue 7 200 000
   */
  recycleAfterMs: number;
}

export const DEFAULT_POOL_TIMES = { idleMs: 600_000, recycleAfterMs: 7_200_000 };

/**
 * The trainer of one base model at a time: the next job on the same model finds it loaded. Runs on that model can share
 * the trainer; a run on another model waits until they have ended.
 */
export interface TrainerPool {
  readonly trainerPid: number | undefined;
  /** The base model that the trainer has, or is about to have, in memory. */
  readonly loadedModel: ModelName | null;
  /** Does one run, in more than one trainer if it takes longer than one may live. */
  run(order: TrainerOrder, options: RunOptions): Promise<RunResult>;
  close(): Promise<void>;
}

interface WarmTrainer {
  process: TrainerProcess;
  baseModel: ModelName;
  /** One for each run that it has or is about to get; settles when that run has ended. */
  slots: Set<Promise<void>>;
  /** Something went wrong in it: it takes no further run. */
  isSuspect: boolean;
}

export function createTrainerPool({ start, idleMs, recycleAfterMs }: TrainerPoolOptions): TrainerPool {
  let warm: WarmTrainer | undefined;
  /** Set while a trainer ends. */
  let ending: Promise<void> | null = null;
  let idleTimer: NodeJS.Timeout | undefined;

  const isFitFor = (trainer: WarmTrainer, baseModel: ModelName) =>
    trainer.baseModel === baseModel &&
    trainer.process.usable &&
    !trainer.isSuspect &&
    trainer.process.trainedMs < recycleAfterMs;

  const endWarm = async () => {
    clearTimeout(idleTimer);
    const leaving = warm?.process;
    warm = undefined;
    if (leaving !== undefined) {
      const current = Promise.all([ending, leaving.end()]).then(() => {
        if (ending === current) ending = null;
      });
      ending = current;
    }
    await ending;
  };

  /** A slot in the trainer for a base model, as soon as there can be one; null where the run was stopped before. */
  const takeSlot = async (baseModel: ModelName, signal: AbortSignal) => {
    clearTimeout(idleTimer);
    for (;;) {
      if (ending !== null) {
        await ending;
        continue;
      }
      if (warm === undefined || isFitFor(warm, baseModel)) {
        warm ??= { process: start(), baseModel, slots: new Set(), isSuspect: false };
        return slotIn(warm);
      }
      if (signal.aborted) return null;
      // It ends before the next one starts: two base models at once may not fit into memory.
      if (warm.slots.size === 0) await endWarm();
      else await unlessStopped(Promise.race(warm.slots), signal, () => {});
    }
  };

  const slotIn = (trainer: WarmTrainer) => {
    let settle = () => {};
    const slot = new Promise<void>((resolve) => {
      settle = resolve;
    });
    trainer.slots.add(slot);
    const leave = async () => {
      trainer.slots.delete(slot);
      settle();
      if (trainer !== warm || trainer.slots.size > 0) return;
      if (trainer.isSuspect) await endWarm();
      else idleTimer = setTimeout(() => void endWarm(), idleMs).unref();
    };
    return { trainer, leave };
  };

  /** One run in one trainer. */
  const runOnce = async (order: TrainerOrder, { signal, onEvent }: RunOptions): Promise<TrainerRunResult> => {
    const slot = await takeSlot(order.spec.base_model, signal);
    if (slot === null) return { type: 'stopped', reason: signal.reason };
    const { trainer, leave } = slot;
    const recycling = new AbortController();
    const timer = setTimeout(() => recycling.abort(), Math.max(0, recycleAfterMs - trainer.process.trainedMs));
    const result = await trainer.process.run(order, { signal, recycle: recycling.signal, onEvent });
    clearTimeout(timer);
    // A process in which something of ours went wrong is not trusted with another job.
    trainer.isSuspect ||= result.type === 'failed' && isRetryable(result.failure);
    await leave();
    return result;
  };

  return {
    get trainerPid() {
      return warm?.process.usable ? warm.process.pid : undefined;
    },
    get loadedModel() {
      return warm !== undefined && isFitFor(warm, warm.baseModel) ? warm.baseModel : null;
    },
    async run(order, options) {
      const { signal } = options;
      for (;;) {
        const result = await runOnce(order, options);
        if (result.type === 'recycled' && !signal.aborted) continue;
        // Once a stop was asked for, it does not matter how the trainer ended.
        const isStopped = result.type === 'recycled' || (result.type !== 'finished' && signal.aborted);
        return isStopped ? { type: 'stopped', reason: signal.reason } : result;
      }
    },
    close: endWarm,
  };
}
