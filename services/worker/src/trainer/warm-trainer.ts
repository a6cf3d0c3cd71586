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
  /** The time that a trainer without a run is kept, with its base model in memory. */
  idleMs: number;
  /** The training after which a trainer is replaced. */
  recycleAfterMs: number;
  /** Called when {@link WarmTrainer.take} may find a slot that it did not find before, and when the trainer is no longer fit. */
  onChange: () => void;
}

/** A slot of the trainer, for one run or conversation. */
export interface TrainerSlot {
  process: TrainerProcess;
  /** The process is not trusted with further runs, since something of ours went wrong in it. */
  distrust(): void;
  leave(): void;
}

interface Trainer {
  process: TrainerProcess;
  base: SharedBase | null;
  slots: number;
  isSuspect: boolean;
}

/**
 * One trainer at a time. It is started before it is needed, and has the engine loaded but no base model, which it gets from
 * its first slot. The next trainer starts only when the one before has ended: two base models may not fit into memory.
 */
export class WarmTrainer {
  readonly #options: WarmTrainerOptions;
  #trainer: Trainer | undefined;
  /** Set while a trainer ends. */
  #ending: Promise<void> | null = null;
  #isClosed = false;
  #idleTimer: NodeJS.Timeout | undefined;

  /** Starts the first trainer at once. */
  constructor(options: WarmTrainerOptions) {
    this.#options = options;
    this.#trainer = this.#start();
  }

  get pid(): number | undefined {
    return this.#trainer?.process.usable ? this.#trainer.process.pid : undefined;
  }

  /** The base that the trainer has, or is about to have, in memory; null: none yet, or it can take no run. */
  get base(): SharedBase | null {
    return this.#trainer !== undefined && this.#isFitNow(this.#trainer) ? this.#trainer.base : null;
  }

  /** True if its runs may continue in it. */
  get isFit(): boolean {
    return this.#trainer !== undefined && this.#isFitNow(this.#trainer);
  }

  /** The count of slots that are taken. */
  get slots(): number {
    return this.#trainer?.slots ?? 0;
  }

  /** A slot for this base; null while there can be none. A trainer with another base is replaced once it has no slot. */
  take(base: SharedBase): TrainerSlot | null {
    if (this.#ending !== null || this.#isClosed) return null;
    this.#trainer ??= this.#start();
    const trainer = this.#trainer;
    if (this.#isFitNow(trainer) && isSameBase(trainer.base ?? base, base)) {
      clearTimeout(this.#idleTimer);
      trainer.base = base;
      return this.#slotIn(trainer);
    }
    if (trainer.slots === 0) void this.#replace();
    return null;
  }

  close(): Promise<void> {
    this.#isClosed = true;
    return this.#replace();
  }

  #start(): Trainer {
    return { process: this.#options.start(), base: null, slots: 0, isSuspect: false };
  }

  #isFitNow({ process, isSuspect }: Trainer): boolean {
    return process.usable && !isSuspect && process.trainedMs < this.#options.recycleAfterMs;
  }

  #slotIn(trainer: Trainer): TrainerSlot {
    const { onChange, idleMs } = this.#options;
    trainer.slots++;
    return {
      process: trainer.process,
      distrust: () => {
        trainer.isSuspect = true;
        onChange();
      },
      leave: () => {
        trainer.slots--;
        if (trainer === this.#trainer && trainer.slots === 0) {
          if (this.#isFitNow(trainer)) this.#idleTimer = setTimeout(() => void this.#replace(), idleMs).unref();
          else void this.#replace();
        }
        onChange();
      },
    };
  }

  /** Ends the trainer; the next one starts when it has ended. */
  async #replace(): Promise<void> {
    clearTimeout(this.#idleTimer);
    const leaving = this.#trainer?.process;
    this.#trainer = undefined;
    if (leaving !== undefined) {
      const current = Promise.all([this.#ending, leaving.end()]).then(() => {
        if (this.#ending !== current) return;
        this.#ending = null;
        if (!this.#isClosed) this.#trainer ??= this.#start();
        this.#options.onChange();
      });
      this.#ending = current;
    }
    await this.#ending;
  }
}

export function isSameBase(one: SharedBase, other: SharedBase): boolean {
  const isSameForm = one.precision === other.precision && one.quantization === other.quantization;
  return one.baseModel === other.baseModel && isSameForm;
}
