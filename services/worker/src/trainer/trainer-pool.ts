import { untilAborted } from '@lorasmith/concurrency';
import type { JobSpec, ModelName, TrainingSettings } from '@lorasmith/contracts';
import type { Capacity } from '@lorasmith/queue';
import { capacityOf, generatableModel, mayBegin, mayContinue, type PoolState } from './admission.js';
import {
  firstSuspect,
  noSuspicion,
  type Suspicion,
  type SuspicionEvent,
  suspicionAfter,
  suspicionChanges,
} from './crash-suspicion.js';
import { PoolMember, type PoolOfMember } from './pool-member.js';
import type { TrainerProcess } from './trainer-process.js';
import { type SharedBase, WarmTrainer } from './warm-trainer.js';

type Precision = TrainingSettings['precision'];

export interface TrainerPoolOptions {
  start: () => TrainerProcess;
  /** The time that a trainer without a run is kept, with its base model in memory. @defaultValue 600 000 */
  idleMs: number;
  /**
   * The training after which a trainer is replaced, once a step of each run is done. Its engine numbers tensors with 32 bits
   * and never reuses a number; at five microseconds an op, which is the fewest, two hours use a third of them. The rest is
   * for the step, the evaluation or the checks of an adapter that it is at by then.
   * @defaultValue 7 200 000
   */
  recycleAfterMs: number;
  /** The most jobs at once. */
  jobsAtOnce: number;
  /** The precision in which a job with this setting is trained; `auto` where only its trainer can tell. @defaultValue the setting */
  precisionOf?: (setting: Precision) => Precision;
  /** Says if the machine is why a trainer failed: then no run is suspected. @defaultValue it never is */
  isMachineAtFault?: () => Promise<boolean>;
}

export const DEFAULT_POOL_TIMES = { idleMs: 600_000, recycleAfterMs: 7_200_000 };

/** The time that a job that was deferred keeps the pool from taking others, unless a run ends before. */
const DEFERRAL_MS = 600_000;

/** A slot of the trainer for text, until it is released. */
export interface TrainerLease {
  process: TrainerProcess;
  /** The base model as the trainer has it, or is about to. */
  base: SharedBase;
  release(): void;
}

/**
 * Shares one trainer among the runs of a base model in one form. {@link Suspicion} says which of them may have crashed it, and
 * admission.ts which may begin while others run.
 */
export class TrainerPool {
  readonly #options: TrainerPoolOptions;
  readonly #trainer: WarmTrainer;
  /** The members in the order in which their jobs were taken. */
  readonly #members = new Map<number, PoolMember>();
  readonly #listeners = new Set<() => void>();
  /** The trainers whose crash was counted. Each of their runs reports it. */
  readonly #crashed = new WeakSet<TrainerProcess>();
  #suspicion: Suspicion;
  #lastNumber = 0;
  #isClosed = false;
  /** Set while nothing is taken because a job could not begin while others ran. */
  #deferral: NodeJS.Timeout | null = null;
  #change = nextChange();

  /** Starts the first trainer at once. */
  constructor(options: TrainerPoolOptions) {
    this.#options = options;
    this.#suspicion = noSuspicion(options.jobsAtOnce);
    this.#trainer = new WarmTrainer({ ...options, onChange: () => this.#changed() });
  }

  get trainerPid(): number | undefined {
    return this.#trainer.pid;
  }

  /** The base model that the trainer has, or is about to have, in memory; null: it has none yet, or can take no run. */
  get loadedModel(): ModelName | null {
    return this.#trainer.base?.baseModel ?? null;
  }

  /** The jobs that the pool can take now; null: none. */
  capacity(): Capacity | null {
    return capacityOf(this.#state(), (setting) => this.#precisionOf(setting));
  }

  /** Calls the listener when the capacity may have grown, or text can be generated for more. @returns ends that */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Counts a job that was taken, until it leaves. */
  add({
    base_model: baseModel,
    training,
  }: Pick<JobSpec, 'base_model'> & {
    training: Pick<TrainingSettings, 'precision' | 'base_quantization'>;
  }): PoolMember {
    const precision = this.#precisionOf(training.precision);
    const base: SharedBase = { baseModel, precision, quantization: training.base_quantization };
    const member = new PoolMember(++this.#lastNumber, base, this.#ofMembers);
    this.#members.set(member.number, member);
    return member;
  }

  /** The base model for which text can be generated now: null none, `baseModel` null any, else only that one. */
  generatableModel(): { baseModel: ModelName | null } | null {
    return generatableModel(this.#state());
  }

  /**
   * Keeps a trainer with this base model until it is released: in the form in which it has the model, else in this one.
   * Null where the trainer is needed for something else, or the signal is aborted.
   */
  async lease(asked: SharedBase, signal: AbortSignal): Promise<TrainerLease | null> {
    const { baseModel } = asked;
    for (;;) {
      const now = this.generatableModel();
      if (signal.aborted || now === null || (now.baseModel ?? baseModel) !== baseModel) return null;
      const { base } = this.#trainer;
      const running = [...this.#members.values()].find(({ state }) => state !== 'taken')?.base;
      const loaded = base?.baseModel === baseModel ? base : running;
      const wanted = loaded ?? { ...asked, precision: this.#precisionOf(asked.precision) };
      const slot = this.#trainer.take(wanted);
      if (slot !== null) return { process: slot.process, base: wanted, release: slot.leave };
      await untilAborted(this.#change.announced, signal);
    }
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#changed();
    return this.#trainer.close();
  }

  #precisionOf(setting: Precision): Precision {
    return this.#options.precisionOf?.(setting) ?? setting;
  }

  #state(): PoolState {
    return {
      isClosed: this.#isClosed,
      runs: [...this.#members.values()],
      limit: this.#suspicion.limit,
      firstSuspect: firstSuspect(this.#suspicion),
      isDeferring: this.#deferral !== null,
      trainer: this.#trainer,
    };
  }

  #changed(): void {
    const state = this.#state();
    for (const member of this.#members.values()) if (!mayContinue(member, state)) member.recycle();
    this.#change.announce();
    this.#change = nextChange();
    for (const listener of this.#listeners) listener();
  }

  readonly #ofMembers: PoolOfMember = {
    recycleAfterMs: () => this.#options.recycleAfterMs,
    takeSlot: (member) => (mayBegin(member, this.#state()) ? this.#trainer.take(member.base) : null),
    mayContinue: (member) => mayContinue(member, this.#state()),
    untilChanged: (giveUp) => untilAborted(this.#change.announced, giveUp),
    changed: () => this.#changed(),
    note: (event) => {
      const before = this.#suspicion;
      void this.#note(event);
      return this.#suspicion !== before;
    },
    afterCrash: (member, process, concurrent) => this.#afterCrash(member, process, concurrent),
    leave: (member, isDeferred) => this.#leave(member, isDeferred),
  };

  #leave(member: PoolMember, isDeferred: boolean): void {
    if (!this.#members.delete(member.number)) return;
    void this.#note({ kind: 'left', run: member.number, remaining: this.#members.size });
    if (this.#deferral !== null) clearTimeout(this.#deferral);
    this.#deferral = isDeferred ? setTimeout(() => this.#endDeferral(), DEFERRAL_MS).unref() : null;
    this.#changed();
  }

  #endDeferral(): void {
    this.#deferral = null;
    this.#changed();
  }

  /** Takes an event into account, and has the runs record what it changes. */
  async #note(event: SuspicionEvent): Promise<void> {
    const before = this.#suspicion;
    this.#suspicion = suspicionAfter(before, event, this.#options.jobsAtOnce);
    if (event.kind === 'began' || event.kind === 'left') return;
    const changes = suspicionChanges(before, this.#suspicion);
    // Each crash is recorded, even at the step of the one before.
    if (event.kind === 'crashed') changes.set(event.run, this.#suspicion.suspects.get(event.run)!);
    await Promise.all([...changes].map(([number, step]) => this.#members.get(number)?.recordSuspicion(step)));
  }

  /** A run whose trainer crashed with others in it is a suspect, and is tried again. */
  async #afterCrash(
    { number: run, step }: PoolMember,
    process: TrainerProcess,
    concurrent: number,
  ): Promise<'retry' | 'pause' | 'fail'> {
    if (concurrent > 0 && (await this.#options.isMachineAtFault?.())) return 'fail';
    const isFirst = !this.#crashed.has(process);
    this.#crashed.add(process);
    const noted = this.#note({ kind: 'crashed', run, step, concurrent, isFirst });
    if (concurrent === 0) {
      await noted;
      return 'fail';
    }
    if ([...this.#members.keys()].indexOf(run) >= this.#suspicion.limit) return 'pause';
    this.#changed();
    return 'retry';
  }
}

/** The next change of a pool, until it is announced. */
function nextChange(): { announced: Promise<void>; announce(): void } {
  let announce = () => {};
  const announced = new Promise<void>((resolve) => {
    announce = resolve;
  });
  return { announced, announce };
}
