import { untilAborted } from '@lorasmith/concurrency';
import type { JobSpec, ModelName, TrainingSettings } from '@lorasmith/contracts';
import type { Capacity } from '@lorasmith/queue';
import { appetiteOf, generatableModel, mayBegin, mayContinue, type PlacedRun, type PoolState } from './admission.js';
import {
  firstSuspect,
  noSuspicion,
  type Suspicion,
  type SuspicionEvent,
  suspicionAfter,
  suspicionChanges,
} from './crash-suspicion.js';
import type { TrainerOrder } from './messages.js';
import type { PoolOutcome } from './run-outcome.js';
import { isCrash } from './trainer-failure.js';
import type { EndedRun, RunOptions, TrainerProcess } from './trainer-process.js';
import { createWarmTrainer, type SharedBase, type TrainerSlot, type WarmTrainer } from './warm-trainer.js';

type Precision = TrainingSettings['precision'];

export interface TrainerPoolOptions {
  start: () => TrainerProcess;
  /** How long a trainer without a run is kept, with its base model in memory. @defaultValue 600 000 */
  idleMs: number;
  /**
   * A trainer is replaced after so much training, once a step of each run is done. Its engine numbers tensors with 32 bits
   * and never reuses a number; at five microseconds an op, which is the fewest, two hours use a third of them. The rest is
   * for the step, the evaluation or the checks of an adapter that it is at by then.
   * @defaultValue 7 200 000
   */
  recycleAfterMs: number;
  /** The most jobs at once. */
  jobsAtOnce: number;
  /** The precision in which a job with this setting is trained; `auto` where only its trainer can tell. @defaultValue the setting */
  precisionOf?: (setting: Precision) => Precision;
  /** Whether the machine is why a trainer failed: then no run is suspected. @defaultValue it never is */
  isMachineAtFault?: () => Promise<boolean>;
}

export const DEFAULT_POOL_TIMES = { idleMs: 600_000, recycleAfterMs: 7_200_000 };

/** How long a job that was deferred keeps the pool from taking others, unless a run ends before. */
const DEFERRAL_MS = 600_000;

export interface PoolRunOptions extends RunOptions {
  /** Aborted, the run stops after a step, with a checkpoint. @defaultValue never */
  pause?: AbortSignal;
  /**
   * The step at which the trainer of this run crashed, as an attempt before has recorded it: the run is alone until it has
   * passed that step. @defaultValue null: it is not suspected
   */
  suspectStep?: number | null;
  /** Records that the run is suspected since this step, or no longer (null). @defaultValue nothing is recorded */
  onSuspicion?: (step: number | null) => Promise<void>;
}

/** The place of a job in the pool, from the moment it is taken. */
export interface PoolPlace {
  /** Does the job's run, in more than one trainer if it takes longer than one may live, or if one crashes. */
  run(order: TrainerOrder, options: PoolRunOptions): Promise<PoolOutcome>;
  /** Gives the place up. */
  leave(): void;
}

export interface TrainerHold {
  process: TrainerProcess;
  /** The base model as the trainer has it, or is about to. */
  base: SharedBase;
  release(): void;
}

/** A run, in whichever trainer it is. */
interface Member extends PlacedRun {
  /** The last step that was done. */
  step: number;
  /** Ends the run of the current trainer after a step. */
  recycling: AbortController;
  onSuspicion: (step: number | null) => Promise<void>;
}

/**
 * Shares one trainer among the runs of a base model in one form. {@link Suspicion} says which of them may have crashed it, and
 * admission.ts which may begin beside the others.
 */
export class TrainerPool {
  readonly #options: TrainerPoolOptions;
  readonly #trainer: WarmTrainer;
  /** The members in the order in which their jobs were taken. */
  readonly #members = new Map<number, Member>();
  readonly #listeners = new Set<() => void>();
  /** The trainers whose crash was counted. Each of their runs reports it. */
  readonly #crashed = new WeakSet<TrainerProcess>();
  #suspicion: Suspicion;
  #lastNumber = 0;
  #isClosed = false;
  /** Set while nothing is taken because a job could not begin beside the others. */
  #deferral: NodeJS.Timeout | null = null;
  #change = nextChange();

  /** Starts the first trainer at once. */
  constructor(options: TrainerPoolOptions) {
    this.#options = options;
    this.#suspicion = noSuspicion(options.jobsAtOnce);
    this.#trainer = createWarmTrainer({ ...options, onChange: () => this.#changed() });
  }

  get trainerPid(): number | undefined {
    return this.#trainer.pid;
  }

  /** The base model that the trainer has, or is about to have, in memory; null: it has none yet, or can take no run. */
  get loadedModel(): ModelName | null {
    return this.#trainer.base?.baseModel ?? null;
  }

  /** The jobs that the pool can take now; null: none. */
  appetite(): Capacity | null {
    return appetiteOf(this.#state(), (setting) => this.#precisionOf(setting));
  }

  /** Calls the listener when the appetite may have grown, or text can be generated for more. @returns ends that */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Counts a job that was taken. */
  place({
    base_model: baseModel,
    training,
  }: Pick<JobSpec, 'base_model'> & {
    training: Pick<TrainingSettings, 'precision' | 'base_quantization'>;
  }): PoolPlace {
    const member: Member = {
      number: ++this.#lastNumber,
      base: {
        ...{ baseModel, precision: this.#precisionOf(training.precision) },
        quantization: training.base_quantization,
      },
      state: 'placed',
      step: 0,
      recycling: new AbortController(),
      onSuspicion: async () => {},
    };
    this.#members.set(member.number, member);
    return {
      run: async (order, options) => {
        if (options.onSuspicion !== undefined) member.onSuspicion = options.onSuspicion;
        member.state = 'waiting';
        void this.#note({ kind: 'began', run: member.number, suspectStep: options.suspectStep ?? null });
        this.#changed();
        const outcome = await this.#runToEnd(member, order, options);
        this.#leave(member, outcome.kind === 'deferred');
        return outcome;
      },
      leave: () => this.#leave(member),
    };
  }

  /** The base model for which text can be generated now: null none, `baseModel` null any, else only that one. */
  generatableModel(): { baseModel: ModelName | null } | null {
    return generatableModel(this.#state());
  }

  /**
   * Keeps a trainer with this base model until it is released: in the form in which it has the model, else in this one.
   * Null where the trainer is needed for something else, or the signal is aborted.
   */
  async hold(asked: SharedBase, signal: AbortSignal): Promise<TrainerHold | null> {
    const { baseModel } = asked;
    for (;;) {
      const now = this.generatableModel();
      if (signal.aborted || now === null || (now.baseModel ?? baseModel) !== baseModel) return null;
      const { base } = this.#trainer;
      const running = [...this.#members.values()].find(({ state }) => state !== 'placed')?.base;
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
    for (const member of this.#members.values()) if (!mayContinue(member, state)) member.recycling.abort();
    this.#change.announce();
    this.#change = nextChange();
    for (const listener of this.#listeners) listener();
  }

  /** Takes an event into account, and has the runs record what it changes. */
  async #note(event: SuspicionEvent): Promise<void> {
    const before = this.#suspicion;
    this.#suspicion = suspicionAfter(before, event, this.#options.jobsAtOnce);
    if (event.kind === 'began' || event.kind === 'left') return;
    const changes = suspicionChanges(before, this.#suspicion);
    // Each crash is recorded, even at the step of the one before.
    if (event.kind === 'crashed') changes.set(event.run, this.#suspicion.suspects.get(event.run)!);
    await Promise.all([...changes].map(([number, step]) => this.#members.get(number)?.onSuspicion(step)));
  }

  #leave(member: Member, isDeferred = false): void {
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

  async #runToEnd(member: Member, order: TrainerOrder, options: PoolRunOptions): Promise<PoolOutcome> {
    const { signal, pause = new AbortController().signal } = options;
    for (;;) {
      const slot = await this.#takeSlot(member, AbortSignal.any([signal, pause]));
      const ended = slot === null ? null : await this.#runIn(slot, member, order, { ...options, pause });
      // Once a stop was asked for, it does not matter how the trainer ended.
      if (signal.aborted && ended?.outcome.kind !== 'finished') return { kind: 'stopped', reason: signal.reason };
      if (slot === null || ended === null) return { kind: 'paused' };
      const { outcome, beside } = ended;
      if (outcome.kind === 'failed') {
        if (!isCrash(outcome.failure)) return outcome;
        if (!(await this.#mayRetry(member, slot.process, beside))) return outcome;
        if ([...this.#members.keys()].indexOf(member.number) >= this.#suspicion.limit) return { kind: 'paused' };
        this.#changed();
      } else if (outcome.kind === 'recycled' || outcome.kind === 'displaced') {
        if (pause.aborted) return { kind: 'paused' };
      } else {
        return outcome;
      }
    }
  }

  async #takeSlot(member: Member, giveUp: AbortSignal): Promise<TrainerSlot | null> {
    for (;;) {
      if (giveUp.aborted) return null;
      const slot = mayBegin(member, this.#state()) ? this.#trainer.take(member.base) : null;
      if (slot !== null) return slot;
      await untilAborted(this.#change.announced, giveUp);
    }
  }

  /** Does as much of a run as one trainer may do. */
  async #runIn(
    { process, distrust, leave }: TrainerSlot,
    member: Member,
    order: TrainerOrder,
    { signal, pause, onEvent, grade }: RunOptions & { pause: AbortSignal },
  ): Promise<EndedRun> {
    member.state = 'running';
    member.recycling = new AbortController();
    const ageWatch = this.#watchAge(process);
    // A suspect may have come while this one waited.
    if (!mayContinue(member, this.#state())) member.recycling.abort();
    const ended = await process.run(order, {
      signal,
      recycle: AbortSignal.any([member.recycling.signal, pause]),
      grade,
      onEvent: (event) => {
        onEvent(event);
        if (event.type === 'step-finished' || event.type === 'checkpoint-loaded')
          this.#stepped(member, event.data.step);
      },
    });
    ageWatch.end();
    member.state = 'waiting';
    if (ended.outcome.kind === 'failed' && isCrash(ended.outcome.failure)) distrust();
    leave();
    return ended;
  }

  /** Has the runs of a trainer end after a step once it has trained for as long as it may. */
  #watchAge(process: TrainerProcess): { end(): void } {
    let timer: NodeJS.Timeout | undefined;
    const look = () => {
      const restMs = this.#options.recycleAfterMs - process.trainedMs;
      // Its time begins with its first order, and a timer may fire early: a look may come too soon.
      if (restMs > 0) timer = setTimeout(look, restMs);
      else this.#changed();
    };
    look();
    return { end: () => clearTimeout(timer) };
  }

  #stepped(member: Member, step: number): void {
    member.step = step;
    const before = this.#suspicion;
    void this.#note({ kind: 'stepped', run: member.number, step });
    if (this.#suspicion !== before) this.#changed();
  }

  /** Whether a run may be tried again after its trainer crashed: it is then a suspect. */
  async #mayRetry({ number: run, step }: Member, process: TrainerProcess, beside: number): Promise<boolean> {
    if (beside > 0 && (await this.#options.isMachineAtFault?.())) return false;
    const isFirst = !this.#crashed.has(process);
    this.#crashed.add(process);
    const noted = this.#note({ kind: 'crashed', run, step, beside, isFirst });
    if (beside > 0) return true;
    await noted;
    return false;
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
