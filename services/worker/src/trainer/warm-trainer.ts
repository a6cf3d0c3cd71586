import type { BaseQuantization, ModelName, TrainingSettings } from '@lorasmith/contracts';
import type { TrainerProcess } from './trainer-process.js';

/** The base that runs must have in common to share a trainer. `auto`: which precision that is, the trainer finds out. */
export interface SharedBase {
  baseModel: ModelName;
  precision: TrainingSettings['precision'];
  quantization: BaseQuantization;
}

export interface WarmTrainerOptions {
  start: () => TrainerProcess;
  /** How long a trainer without a run is kept, with its base model in memory. */
  idleMs: number;
  /** A trainer is replaced after so much training. */
  recycleAfterMs: number;
  /** Called when {@link WarmTrainer.take} may find a slot that it did not find before, and when the trainer is no longer fit. */
  onChange: () => void;
}

/** A place in the trainer, for one run or conversation. */
export interface TrainerSlot {
  process: TrainerProcess;
  /** The process is not trusted with further runs, since something of ours went wrong in it. */
  distrust(): void;
  leave(): void;
}

/**
 * One trainer at a time. It is started before it is needed, and has the engine loaded but no base model, which it gets from
 * its first slot. The next trainer starts only when the one before has ended: two base models may not fit into memory.
 */
export interface WarmTrainer {
  readonly pid: number | undefined;
  /** The base that the trainer has, or is about to have, in memory; null: none yet, or it can take no run. */
  readonly base: SharedBase | null;
  /** Whether its runs may continue in it. */
  readonly isFit: boolean;
  /** How many slots are taken. */
  readonly slots: number;
  /** A slot for this base; null while there can be none. A trainer with another base is replaced once it has no slot. */
  take(base: SharedBase): TrainerSlot | null;
  close(): Promise<void>;
}

interface Trainer {
  process: TrainerProcess;
  base: SharedBase | null;
  slots: number;
  isSuspect: boolean;
}

/** Starts the first trainer at once. */
export function createWarmTrainer({ start, idleMs, recycleAfterMs, onChange }: WarmTrainerOptions): WarmTrainer {
  const startTrainer = (): Trainer => ({ process: start(), base: null, slots: 0, isSuspect: false });
  let trainer: Trainer | undefined = startTrainer();
  /** Set while a trainer ends. */
  let ending: Promise<void> | null = null;
  let isClosed = false;
  let idleTimer: NodeJS.Timeout | undefined;

  const isFit = ({ process, isSuspect }: Trainer) => process.usable && !isSuspect && process.trainedMs < recycleAfterMs;

  const replace = async () => {
    clearTimeout(idleTimer);
    const leaving = trainer?.process;
    trainer = undefined;
    if (leaving !== undefined) {
      const current = Promise.all([ending, leaving.end()]).then(() => {
        if (ending !== current) return;
        ending = null;
        if (!isClosed) trainer ??= startTrainer();
        onChange();
      });
      ending = current;
    }
    await ending;
  };

  const slotIn = (taken: Trainer): TrainerSlot => {
    taken.slots++;
    return {
      process: taken.process,
      distrust() {
        taken.isSuspect = true;
        onChange();
      },
      leave() {
        taken.slots--;
        if (taken === trainer && taken.slots === 0) {
          if (isFit(taken)) idleTimer = setTimeout(() => void replace(), idleMs).unref();
          else void replace();
        }
        onChange();
      },
    };
  };

  return {
    get pid() {
      return trainer?.process.usable ? trainer.process.pid : undefined;
    },
    get base() {
      return trainer !== undefined && isFit(trainer) ? trainer.base : null;
    },
    get isFit() {
      return trainer !== undefined && isFit(trainer);
    },
    get slots() {
      return trainer?.slots ?? 0;
    },
    take(base) {
      if (ending !== null || isClosed) return null;
      trainer ??= startTrainer();
      if (isFit(trainer) && isSameBase(trainer.base ?? base, base)) {
        clearTimeout(idleTimer);
        trainer.base = base;
        return slotIn(trainer);
      }
      if (trainer.slots === 0) void replace();
      return null;
    },
    close() {
      isClosed = true;
      return replace();
    },
  };
}

export function isSameBase(one: SharedBase, other: SharedBase): boolean {
  const isSameForm = one.precision === other.precision && one.quantization === other.quantization;
  return one.baseModel === other.baseModel && isSameForm;
}
