import type { JobFailure, JobSpec, ModelName, TrainingOutcome, TrainingSettings } from '@lorasmith/contracts';
import type { Appetite } from '@lorasmith/job-store';
import type { StopReason } from '@lorasmith/training';
import type { TrainerOrder } from './messages.js';
import { isCrash } from './trainer-failure.js';
import type { RunOptions, TrainerProcess, TrainerRunResult } from './trainer-process.js';
import { createWarmTrainer, isSameBase, type SharedBase } from './warm-trainer.js';

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

/** Timers may fire up to a millisecond early. */
const TIMER_SLACK_MS = 5;

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

/**
 * - `paused`: on request, or because the pool takes fewer runs than it did. It continues from its checkpoint.
 * - `deferred`: it could not begin beside the others, for the reason in `why`.
 */
export type RunResult =
  | { type: 'finished'; outcome: TrainingOutcome }
  | { type: 'stopped'; reason: StopReason }
  | { type: 'failed'; failure: JobFailure }
  | { type: 'paused' }
  | { type: 'deferred'; why: string };

/** The place of a job in the pool, from the moment it is taken. */
export interface PoolPlace {
  /** Does the job's run, in more than one trainer if it takes longer than one may live, or if one crashes. */
  run(order: TrainerOrder, options: PoolRunOptions): Promise<RunResult>;
  /** Gives the place up. */
  leave(): void;
}

/**
 * Shares one trainer among the runs of a base model and precision.
 *
 * **Crashes.** If the trainer of several runs crashes, hangs or runs out of memory, each of them is suspected. A suspect runs
 * alone, the others wait, until it has done one more step than it had. If the trainer crashes with it alone, it is the
 * culprit: that failure is its result, and the others are no longer suspected. If all pass, it was what they took together:
 * should that happen again, the pool takes half as many from then on, until it is empty.
 */
export interface TrainerPool {
  readonly trainerPid: number | undefined;
  /** The base model that the trainer has, or is about to have, in memory; null: it has none yet, or can take no run. */
  readonly loadedModel: ModelName | null;
  /** What the pool can take now; null: nothing. */
  appetite(): Appetite | null;
  /** Calls the listener when the appetite may have grown. @returns ends that */
  onAppetite(listener: () => void): () => void;
  /** Counts a job that was taken. */
  place(spec: Pick<JobSpec, 'base_model'> & { training: Pick<TrainingSettings, 'precision'> }): PoolPlace;
  /** What a conversation can be about now: null nothing, `baseModel` null any base model, else only that one. */
  generatableModel(): { baseModel: ModelName | null } | null;
  /** Calls the listener when more may be generatableModel. @returns ends that */
  onGeneratable(listener: () => void): () => void;
  /**
   * Keeps a trainer with this base model, in whatever precision, until it is released. Null where the trainer is needed for
   * something else, or the signal is aborted.
   */
  hold(baseModel: ModelName, signal: AbortSignal): Promise<TrainerHold | null>;
  close(): Promise<void>;
}

export interface TrainerHold {
  process: TrainerProcess;
  release(): void;
}

interface Member {
  base: SharedBase;
  state: 'placed' | 'waiting' | 'running';
  /** The last step that was done. */
  step: number;
  /** Null: not suspected. */
  suspectStep: number | null;
  /** Ends the run of the current trainer after a step. */
  recycling: AbortController;
  onSuspicion: (step: number | null) => Promise<void>;
}

/** Starts the first trainer at once. */
export function createTrainerPool(options: TrainerPoolOptions): TrainerPool {
  const { jobsAtOnce, recycleAfterMs, precisionOf = (setting) => setting, isMachineAtFault } = options;
  const members = new Set<Member>();
  const listeners = new Set<() => void>();
  let isClosed = false;
  /** Lowered when it was too many at once, until there is none. */
  let limit = jobsAtOnce;
  /** All suspects of the last crash have passed. */
  let foundNoCulprit = false;
  /** Set while nothing is taken because a job could not begin beside the others. */
  let deferral: NodeJS.Timeout | null = null;
  const crashed = new WeakSet<TrainerProcess>();
  let wake = () => {};
  let nextChange = Promise.resolve();

  const changed = () => {
    for (const member of members) if (!mayContinue(member)) member.recycling.abort();
    wake();
    nextChange = new Promise((resolve) => {
      wake = resolve;
    });
    for (const listener of listeners) listener();
  };
  const trainer = createWarmTrainer({ ...options, onChange: changed });

  const active = () => [...members].filter(({ state }) => state !== 'placed');
  /** The suspect whose turn it is. */
  const suspect = () => active().find(({ suspectStep }) => suspectStep !== null);
  const mayContinue = (member: Member) => {
    if (member.state !== 'running') return true;
    return trainer.isFit && (suspect() ?? member) === member;
  };
  const mayBegin = (member: Member) => {
    const first = suspect();
    if (first !== undefined) return first === member && trainer.slots === 0;
    // None passes one that came before it and waits for another base model.
    for (const other of members) {
      if (other === member) break;
      if (other.state === 'waiting' && !isSameBase(other.base, member.base)) return false;
    }
    return true;
  };
  const onListener = (listener: () => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };

  /** Resolves at the next change, or when one of the signals is aborted. */
  const change = async (signal: AbortSignal) => {
    let onAbort = () => {};
    const aborted = new Promise<void>((resolve) => {
      onAbort = resolve;
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) resolve();
    });
    await Promise.race([nextChange, aborted]);
    signal.removeEventListener('abort', onAbort);
  };

  const takeSlot = async (member: Member, giveUp: AbortSignal) => {
    for (;;) {
      if (giveUp.aborted) return null;
      const slot = mayBegin(member) ? trainer.take(member.base) : null;
      if (slot !== null) return slot;
      await change(giveUp);
    }
  };

  const pass = (member: Member) => {
    member.suspectStep = null;
    foundNoCulprit = suspect() === undefined;
    void member.onSuspicion(null);
    changed();
  };

  /** One run in one trainer; null where it was asked to stop or pause before. */
  const runOnce = async (
    member: Member,
    order: TrainerOrder,
    { signal, pause, onEvent }: RunOptions & { pause: AbortSignal },
  ): Promise<{ result: TrainerRunResult; process: TrainerProcess } | null> => {
    const slot = await takeSlot(member, AbortSignal.any([signal, pause]));
    if (slot === null) return null;
    const { process } = slot;
    member.state = 'running';
    member.recycling = new AbortController();
    const timer = setTimeout(changed, Math.max(0, recycleAfterMs - process.trainedMs) + TIMER_SLACK_MS);
    // A suspect may have come while this one waited.
    if (!mayContinue(member)) member.recycling.abort();
    const result = await process.run(order, {
      signal,
      recycle: AbortSignal.any([member.recycling.signal, pause]),
      onEvent(event) {
        onEvent(event);
        if (event.type !== 'step-finished' && event.type !== 'checkpoint-loaded') return;
        member.step = event.data.step;
        if (member.suspectStep !== null && member.step > member.suspectStep) pass(member);
      },
    });
    clearTimeout(timer);
    member.state = 'waiting';
    if (result.type === 'failed' && isCrash(result.failure)) slot.distrust();
    slot.leave();
    return { result, process };
  };

  /** @returns whether the run may be tried again: it is then a suspect */
  const suspectAfterCrash = async (member: Member, process: TrainerProcess, beside: number): Promise<boolean> => {
    if (beside === 0) {
      for (const other of members) {
        if (other === member || other.suspectStep === null) continue;
        other.suspectStep = null;
        void other.onSuspicion(null);
      }
      foundNoCulprit = false;
      // Its next attempt is alone, too.
      await member.onSuspicion(member.step);
      return false;
    }
    if (await isMachineAtFault?.()) return false;
    if (!crashed.has(process)) {
      crashed.add(process);
      if (foundNoCulprit) limit = Math.max(1, Math.floor((beside + 1) / 2));
      foundNoCulprit = false;
    }
    member.suspectStep = Math.max(member.step, member.suspectStep ?? 0);
    void member.onSuspicion(member.suspectStep);
    return true;
  };

  const leave = (member: Member, isDeferred = false) => {
    if (!members.delete(member)) return;
    if (members.size === 0) {
      limit = jobsAtOnce;
      foundNoCulprit = false;
    }
    if (deferral !== null) clearTimeout(deferral);
    deferral = isDeferred ? setTimeout(() => leaveDeferral(), DEFERRAL_MS).unref() : null;
    changed();
  };
  const leaveDeferral = () => {
    deferral = null;
    changed();
  };

  const runToEnd = async (member: Member, order: TrainerOrder, runOptions: PoolRunOptions): Promise<RunResult> => {
    const { signal, pause = new AbortController().signal } = runOptions;
    for (;;) {
      const ended = await runOnce(member, order, { ...runOptions, pause });
      // Once a stop was asked for, it does not matter how the trainer ended.
      if (signal.aborted && ended?.result.type !== 'finished') return { type: 'stopped', reason: signal.reason };
      if (ended === null) return { type: 'paused' };
      const { result, process } = ended;
      switch (result.type) {
        case 'recycled':
        case 'displaced':
          if (pause.aborted) return { type: 'paused' };
          continue;
        case 'failed': {
          if (!isCrash(result.failure)) return result;
          if (!(await suspectAfterCrash(member, process, result.beside))) return result;
          if ([...members].indexOf(member) >= limit) return { type: 'paused' };
          changed();
          continue;
        }
        default:
          return result;
      }
    }
  };

  const generatableModel = () => {
    if (isClosed || suspect() !== undefined) return null;
    const [first] = active();
    const needed = first?.base.baseModel ?? null;
    const held = trainer.slots > 0 ? (trainer.base?.baseModel ?? null) : null;
    // It is about to be replaced.
    if (trainer.slots > 0 && held === null) return null;
    if (active().some(({ base }) => base.baseModel !== (held ?? needed))) return null;
    return { baseModel: held ?? needed };
  };

  return {
    get trainerPid() {
      return trainer.pid;
    },
    get loadedModel() {
      return trainer.base?.baseModel ?? null;
    },
    appetite() {
      if (isClosed || members.size >= limit) return null;
      if (deferral !== null && trainer.slots > 0) return null;
      if ([...members].some(({ suspectStep }) => suspectStep !== null)) return null;
      const [first] = members;
      // The base of a trainer that is about to be replaced is that of the next one.
      const base = first?.base ?? trainer.base;
      if ([...members].some((member) => !isSameBase(member.base, base!))) return null;
      const settings: Precision[] = ['auto', 'float32', 'bfloat16'];
      return {
        isIdle: first === undefined,
        baseModel: base?.baseModel ?? null,
        precisions: settings.filter((setting) => base !== null && precisionOf(setting) === base.precision),
      };
    },
    onAppetite: onListener,
    place({ base_model: baseModel, training }) {
      const base = { baseModel, precision: precisionOf(training.precision) };
      const recycling = new AbortController();
      const onSuspicion = async () => {};
      const member: Member = { base, state: 'placed', step: 0, suspectStep: null, recycling, onSuspicion };
      members.add(member);
      return {
        async run(order, runOptions) {
          member.suspectStep = runOptions.suspectStep ?? null;
          member.onSuspicion = runOptions.onSuspicion ?? onSuspicion;
          member.state = 'waiting';
          changed();
          const result = await runToEnd(member, order, runOptions);
          leave(member, result.type === 'deferred');
          return result;
        },
        leave: () => leave(member),
      };
    },
    generatableModel,
    onGeneratable: onListener,
    async hold(baseModel, signal) {
      for (;;) {
        const now = generatableModel();
        if (signal.aborted || now === null || (now.baseModel ?? baseModel) !== baseModel) return null;
        const loaded = trainer.base?.baseModel === baseModel ? trainer.base : active()[0]?.base;
        const slot = trainer.take(loaded ?? { baseModel, precision: precisionOf('auto') });
        if (slot !== null) return { process: slot.process, release: slot.leave };
        await change(signal);
      }
    },
    close() {
      isClosed = true;
      changed();
      return trainer.close();
    },
  };
}
