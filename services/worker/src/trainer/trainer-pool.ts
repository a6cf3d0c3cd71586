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
 * One trainer at a time. It is started before it is needed, and has the engine loaded but no base model. The first run gives
 * it one; the next job on the same model finds that loaded. Runs on that model can share the trainer; a run on another
 * model waits until they have ended, and gets a new trainer.
 */
export interface TrainerPool {
  readonly trainerPid: number | undefined;
  /** The base model that the trainer has, or is about to have, in memory; null: it has none yet, or can take no run. */
  readonly loadedModel: ModelName | null;
  /** Does one run, in more than one trainer if it takes longer than one may live. */
  run(order: TrainerOrder, options: RunOptions): Promise<RunResult>;
  close(): Promise<void>;
}

interface WarmTrainer {
  process: TrainerProcess;
  /** Null: it was started before it is needed, and has none yet. */
  baseModel: ModelName | null;
  /** One for each run that it has or is about to get; settles when that run has ended. */
  slots: Set<Promise<void>>;
  /** Something went wrong in it: it takes no further run. */
  isSuspect: boolean;
}

/** Starts the first trainer at once. */
export function createTrainerPool({ start, idleMs, recycleAfterMs }: TrainerPoolOptions): TrainerPool {
  const startWarm = (): WarmTrainer => ({ process: start(), baseModel: null, slots: new Set(), isSuspect: false });
  let warm: WarmTrainer | undefined = startWarm();
  /** Set while a trainer ends. */
  let ending: Promise<void> | null = null;
  let isClosed = false;
  let idleTimer: NodeJS.Timeout | undefined;

  const isFit = ({ process, isSuspect }: WarmTrainer) =>
    process.usable && !isSuspect && process.trainedMs < recycleAfterMs;
  const isFitFor = (trainer: WarmTrainer, baseModel: ModelName) =>
    isFit(trainer) && (trainer.baseModel ?? baseModel) === baseModel;

  /** Ends the trainer. The next one starts only then: two base models at once may not fit into memory. */
  const replaceWarm = async () => {
    clearTimeout(idleTimer);
    const leaving = warm?.process;
    warm = undefined;
    if (leaving !== undefined) {
      const current = Promise.all([ending, leaving.end()]).then(() => {
        if (ending !== current) return;
        ending = null;
        if (!isClosed) warm ??= startWarm();
      });
      ending = current;
    }
    await ending;
  };

  /** A slot in the trainer for a base model, as soon as there can be one; null where the run was stopped before. */
  const takeSlot = async (baseModel: ModelName, signal: AbortSignal) => {
    clearTimeout(idleTimer);
    for (;;) {
      if (signal.aborted) return null;
      if (ending !== null) {
        await ending;
        continue;
      }
      warm ??= startWarm();
      if (isFitFor(warm, baseModel)) {
        warm.baseModel = baseModel;
        return slotIn(warm);
      }
      if (warm.slots.size === 0) await replaceWarm();
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
      if (isFit(trainer)) idleTimer = setTimeout(() => void replaceWarm(), idleMs).unref();
      else await replaceWarm();
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
      return warm !== undefined && isFit(warm) ? warm.baseModel : null;
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
    close() {
      isClosed = true;
      return replaceWarm();
    },
  };
}
