import type { ErrorCode, JobFailure } from '@lorasmith/contracts';
import type { PoolRun } from './admission.js';
import type { SuspicionEvent } from './crash-suspicion.js';
import type { PoolOutcome, TrainerOrder } from './messages.js';
import type { EndedRun, RunOptions, TrainerProcess } from './trainer-process.js';
import type { SharedBase, TrainerSlot } from './warm-trainer.js';

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

/** The pool, as its members need it. */
export interface PoolOfMember {
  /** The training after which a trainer is replaced, in milliseconds. */
  recycleAfterMs(): number;
  /** A slot of the trainer; null while the member may not begin. */
  takeSlot(member: PoolMember): TrainerSlot | null;
  /** True if the member may continue in the trainer that it has. */
  mayContinue(member: PoolMember): boolean;
  /** Resolves when {@link takeSlot} may have another answer, or the signal is aborted. */
  untilChanged(giveUp: AbortSignal): Promise<unknown>;
  changed(): void;
  /** Takes an event into account. @returns true if it changes who is suspected */
  note(event: SuspicionEvent): boolean;
  /** @param concurrent the count of other runs of the trainer @returns what the run does after the crash of its trainer */
  afterCrash(member: PoolMember, process: TrainerProcess, concurrent: number): Promise<'retry' | 'pause' | 'fail'>;
  leave(member: PoolMember, isDeferred: boolean): void;
}

/** The codes of failures that may be another run's fault where a trainer has several: it crashed, hung or ran out of memory. */
const CRASH_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'trainer_crashed',
  'trainer_hung',
  'out_of_memory',
  'internal_error',
]);

/** A job in the pool, from the moment it is taken, with its run in whichever trainer that is. */
export class PoolMember implements PoolRun {
  /** Later members have higher numbers. */
  readonly number: number;
  readonly base: SharedBase;
  readonly #pool: PoolOfMember;
  #state: PoolRun['state'] = 'taken';
  /** The last step that was done. */
  #step = 0;
  /** Ends the run of the current trainer after a step. */
  #recycling = new AbortController();
  #onSuspicion: PoolRunOptions['onSuspicion'];

  constructor(number: number, base: SharedBase, pool: PoolOfMember) {
    this.number = number;
    this.base = base;
    this.#pool = pool;
  }

  get state(): PoolRun['state'] {
    return this.#state;
  }

  get step(): number {
    return this.#step;
  }

  /** Does the job's run, in more than one trainer if it takes longer than one may live, or if one crashes. */
  async run(order: TrainerOrder, options: PoolRunOptions): Promise<PoolOutcome> {
    const { onSuspicion, suspectStep = null } = options;
    this.#onSuspicion = onSuspicion;
    this.#state = 'waiting';
    this.#pool.note({ kind: 'began', run: this.number, suspectStep });
    this.#pool.changed();
    const outcome = await this.#runToEnd(order, options);
    this.#pool.leave(this, outcome.kind === 'deferred');
    return outcome;
  }

  /** Gives up its slot, if it has not left yet. */
  leave(): void {
    this.#pool.leave(this, false);
  }

  /** Ends the run of the current trainer after a step; it continues as soon as it may. */
  recycle(): void {
    this.#recycling.abort();
  }

  /** Records that the run is suspected since this step, or no longer (null). */
  async recordSuspicion(step: number | null): Promise<void> {
    await this.#onSuspicion?.(step);
  }

  async #runToEnd(order: TrainerOrder, options: PoolRunOptions): Promise<PoolOutcome> {
    const { signal, pause = new AbortController().signal } = options;
    for (;;) {
      const slot = await this.#takeSlot(AbortSignal.any([signal, pause]));
      const ended = slot === null ? null : await this.#runIn(slot, order, { ...options, pause });
      // Once a stop was asked for, it does not matter how the trainer ended.
      if (signal.aborted && ended?.outcome.kind !== 'finished') return { kind: 'stopped', reason: signal.reason };
      if (slot === null || ended === null) return { kind: 'paused' };
      const { outcome, concurrent } = ended;
      if (outcome.kind === 'failed') {
        if (!isCrash(outcome.failure)) return outcome;
        const next = await this.#pool.afterCrash(this, slot.process, concurrent);
        if (next === 'fail') return outcome;
        if (next === 'pause') return { kind: 'paused' };
      } else if (outcome.kind === 'recycled' || outcome.kind === 'displaced') {
        if (pause.aborted) return { kind: 'paused' };
      } else {
        return outcome;
      }
    }
  }

  async #takeSlot(giveUp: AbortSignal): Promise<TrainerSlot | null> {
    for (;;) {
      if (giveUp.aborted) return null;
      const slot = this.#pool.takeSlot(this);
      if (slot !== null) return slot;
      await this.#pool.untilChanged(giveUp);
    }
  }

  /** Does as much of a run as one trainer may do. */
  async #runIn(
    { process, distrust, leave }: TrainerSlot,
    order: TrainerOrder,
    { signal, pause, onEvent, grade }: RunOptions & { pause: AbortSignal },
  ): Promise<EndedRun> {
    this.#state = 'running';
    this.#recycling = new AbortController();
    const ageWatch = this.#watchAge(process);
    // A suspect may have come while this one waited.
    if (!this.#pool.mayContinue(this)) this.recycle();
    const ended = await process.run(order, {
      signal,
      recycle: AbortSignal.any([this.#recycling.signal, pause]),
      grade,
      onEvent: (event) => {
        onEvent(event);
        if (event.type === 'step-finished' || event.type === 'checkpoint-loaded') this.#stepped(event.data.step);
      },
    });
    ageWatch.end();
    this.#state = 'waiting';
    if (ended.outcome.kind === 'failed' && isCrash(ended.outcome.failure)) distrust();
    leave();
    return ended;
  }

  /** Has the runs of a trainer end after a step once it has trained for as long as it may. */
  #watchAge(process: TrainerProcess): { end(): void } {
    let timer: NodeJS.Timeout | undefined;
    const look = () => {
      const restMs = this.#pool.recycleAfterMs() - process.trainedMs;
      // Its time begins with its first order, and a timer may fire early: a look may come too soon.
      if (restMs > 0) timer = setTimeout(look, restMs);
      else this.#pool.changed();
    };
    look();
    return { end: () => clearTimeout(timer) };
  }

  #stepped(step: number): void {
    this.#step = step;
    if (this.#pool.note({ kind: 'stepped', run: this.number, step })) this.#pool.changed();
  }
}

/** True if the process failed, or something of ours in it, rather than the job. */
function isCrash({ code }: JobFailure): boolean {
  return CRASH_CODES.has(code);
}
