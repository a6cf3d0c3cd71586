import type { ModelSource } from '@lorasmith/base-models';
import {
  ERRORS,
  type MachineProfile,
  ProductError,
  type QueuedSessionOp,
  type QueuedSessionResult,
  type SessionFailure,
  type SessionResult,
} from '@lorasmith/contracts';
import { openBaseModel } from '@lorasmith/model-folder';
import { type ClaimedModel, OPENING, type TrainedModel } from '@lorasmith/queue';
import { linkSignals } from '@lorasmith/service-kit';
import { asStorageError, type BundleStore } from '@lorasmith/storage';
import type { Logger } from 'pino';
import type { SessionEnd, SessionOrder } from '../trainer/messages.js';
import type { TrainerPool } from '../trainer/trainer-pool.js';
import type { OpenSession } from '../trainer/trainer-session.js';
import { newSnapshotId, saveCheckpoint, saveSnapshot } from './save-session.js';

export interface SessionRunOptions {
  pool: Pick<TrainerPool, 'generatableModel' | 'capacity' | 'lease'>;
  models: ModelSource;
  adapters: BundleStore;
  snapshots: BundleStore;
  machine: MachineProfile | null;
  /** Folder in which digests of weights are remembered. */
  weightDigests: string;
  log: Logger;
  /** True if a model of another base has waited for long. */
  isOtherWaiting: (baseModel: string) => Promise<boolean>;
  times: SessionTimes;
}

export interface SessionTimes {
  /** The time between two renewals of a claim. */
  renewMs: number;
  /** The time between two looks for an op without a notice. */
  lookMs: number;
  /** The time without an op after which a model is parked. */
  idleMs: number;
  /** The time that a model has before it is parked for another base. */
  sliceMs: number;
  /** The time until a model that could not be opened now is tried again. */
  againMs: number;
}

export const SESSION_TIMES: SessionTimes = {
  renewMs: 5_000,
  lookMs: 2_000,
  idleMs: 60_000,
  sliceMs: 30_000,
  againMs: 10_000,
};

/** Ops that the trainer has at once: it computes one, and reads the next meanwhile. */
const OPS_AT_ONCE = 3;

/** The reason that the work on a model ends before it is parked. `ended`: its session has; `lost`: another worker has it. */
type Ending = 'ended' | 'lost';

/**
 * Does the ops of a claimed model until it has ended, is parked, or cannot go on here.
 *
 * @param stopping - Aborted: the model is parked, and another worker continues it.
 * @throws what Redis or a store throws; the model is then found by its claim running out
 */
export async function runSession(
  claimed: ClaimedModel,
  options: SessionRunOptions,
  stopping: AbortSignal,
): Promise<void> {
  const ending = new AbortController();
  const renewals = setInterval(() => {
    void claimed.renew().then(
      (answer) => {
        if (answer !== 'ok') ending.abort(answer satisfies Ending);
      },
      () => {},
    );
  }, options.times.renewMs);
  const releases: (() => void)[] = [];
  try {
    const session = await open(claimed, options, { ending: ending.signal, stopping, releases });
    if (session === null) return;
    try {
      await new SessionRun(claimed, session, options, { ending: ending.signal, stopping }).run();
    } finally {
      await session.close();
    }
    if (ending.signal.reason === 'ended') await claimed.leave();
  } finally {
    clearInterval(renewals);
    for (const release of releases.reverse()) release();
  }
}

/** Opens a model as it was left. Null: it was given back, or has ended. */
async function open(
  claimed: ClaimedModel,
  options: SessionRunOptions,
  { ending, stopping, releases }: { ending: AbortSignal; stopping: AbortSignal; releases: (() => void)[] },
): Promise<OpenSession | null> {
  const { model } = claimed;
  const giveBack = async (delayMs: number) => {
    await claimed.giveBack(null, delayMs);
    return null;
  };
  const giveUp = async (failure: SessionFailure) => {
    if (model.done < OPENING) await claimed.end(OPENING, failure);
    await claimed.fail(failure.message);
    return null;
  };
  try {
    const order = await orderOf(claimed, options, releases);
    const leaving = linkSignals([ending, stopping]);
    releases.push(leaving.unlink);
    const lease = await options.pool.lease(
      { baseModel: model.record.spec.base_model, precision: order.precision, quantization: 'none' },
      leaving.signal,
    );
    if (lease === null) {
      if (ending.reason === 'ended') await claimed.leave();
      return ending.aborted ? null : await giveBack(options.times.lookMs);
    }
    releases.push(lease.release);
    // A job has the base in another form.
    if (lease.base.quantization !== 'none') return await giveBack(options.times.againMs);
    const precision = model.described?.precision ?? lease.base.precision;
    const opened = await lease.process.openSession({ ...order, precision }, { signal: ending });
    if (opened.kind !== 'open') return await notOpened(opened);
    const { session } = opened;
    const loaded = await load(session, model, options);
    if (loaded !== null) {
      await session.close();
      return await giveUp(loaded);
    }
    if (model.done < OPENING) {
      const { described } = session;
      await claimed.end(OPENING, { kind: 'opened', described }, described);
    }
    return session;
  } catch (error) {
    const known = asStorageError(error);
    if (!(known instanceof ProductError)) throw error;
    const { code, message } = known;
    const isPassing = code === 'storage_unavailable' || code === 'storage_full';
    return isPassing ? await giveBack(options.times.againMs) : await giveUp(failureOf(known, message));
  }

  async function notOpened(end: SessionEnd): Promise<null> {
    if (end.kind === 'deferred') return await giveBack(options.times.againMs);
    if (end.kind === 'closed') {
      if (ending.reason === 'ended') await claimed.leave();
      return null;
    }
    const { code, message } = end.failure;
    // Its trainer was ended for something else.
    if (code === 'service_unavailable') return await giveBack(options.times.lookMs);
    return await giveUp(failureOf(end.failure, message));
  }
}

function failureOf({ code }: Pick<ProductError, 'code'>, message: string): SessionFailure {
  return { kind: 'failed', category: ERRORS[code].status < 500 ? 'user' : 'server', code, message };
}

/** Brings to this host what the model needs, and keeps it there. */
async function orderOf(
  { model, keyWeight }: ClaimedModel,
  { models, machine, weightDigests }: SessionRunOptions,
  releases: (() => void)[],
): Promise<SessionOrder> {
  const { spec } = model.record;
  const leased = await models.lease(spec.base_model);
  releases.push(() => leased.release());
  const { path: modelFolder } = await openBaseModel(leased.modelsDir, spec.base_model);
  const precision = model.described?.precision ?? 'auto';
  const share = { key: model.owner ?? '', keyWeight, jobWeight: 1 };
  return { kind: 'session', spec, modelFolder, precision, machine, weightDigests, share };
}

/** Loads into a new session what the model begins with. Null: done, or it begins with nothing. */
async function load(
  session: OpenSession,
  { parked, record }: TrainedModel,
  { adapters, snapshots }: SessionRunOptions,
): Promise<SessionFailure | null> {
  if (parked !== null) return await loadFrom(snapshots, parked, session, { withOptimizer: true, withGradient: true });
  const { initial } = record;
  if (initial === null) return null;
  const { adapter, withOptimizer } = initial;
  return await loadFrom(adapters, adapter, session, { withOptimizer, withGradient: false });
}

async function loadFrom(
  store: BundleStore,
  id: string,
  session: OpenSession,
  what: { withOptimizer: boolean; withGradient: boolean },
): Promise<SessionFailure | null> {
  const lease = await store.lease(id).catch((error: unknown) => {
    if (!(error instanceof ProductError && error.code === 'not_found')) throw error;
    const message = 'The saved state was removed. Load another, or create a new model.';
    throw new ProductError('adapter_not_found', message);
  });
  try {
    const result = await session.do({ kind: 'load', folder: lease.folder, ...what });
    return result.kind === 'failed' ? result : null;
  } finally {
    lease.release();
  }
}

/** The work on an open model. */
class SessionRun {
  readonly #claimed: ClaimedModel;
  readonly #session: OpenSession;
  readonly #options: SessionRunOptions;
  readonly #signals: RunSignals;
  /** Aborted when nothing more is begun. */
  readonly #over = new AbortController();
  readonly #openedMs = performance.now();
  /** The writes of the results of ops that the trainer has, oldest first. Each waits for the one before. */
  readonly #writes: Promise<void>[] = [];
  #lastOpMs = performance.now();
  #lastLookMs = Number.NEGATIVE_INFINITY;
  #nextSeq: number;
  /** True if an op was done since the state that is kept. */
  #isChanged = false;

  constructor(claimed: ClaimedModel, session: OpenSession, options: SessionRunOptions, signals: RunSignals) {
    this.#claimed = claimed;
    this.#session = session;
    this.#options = options;
    this.#signals = signals;
    this.#nextSeq = Math.max(claimed.model.done, OPENING) + 1;
  }

  async run(): Promise<void> {
    const { ending, stopping } = this.#signals;
    const stop = () => this.#over.abort();
    const signals = [ending, stopping];
    for (const signal of signals) signal.aborted ? stop() : signal.addEventListener('abort', stop, { once: true });
    let end: SessionEnd | null = null;
    void this.#session.ended.then((how) => {
      end = how;
      stop();
    });
    const isLost = () => end;
    try {
      if (await this.#doOps()) return;
      await Promise.all(this.#writes);
      const lost = isLost();
      if (ending.aborted) return;
      if (lost !== null) await this.#giveUp(lost);
      else await this.#park('now');
    } finally {
      for (const signal of signals) signal.removeEventListener('abort', stop);
    }
  }

  /** Does ops as they come, until nothing more is to be begun. @returns true if the model was parked */
  async #doOps(): Promise<boolean> {
    const { times } = this.#options;
    const notice = this.#claimed.listen();
    try {
      await notice.ready;
      while (!this.#over.signal.aborted) {
        const op = await this.#claimed.op(this.#nextSeq);
        if (await this.#isBaseWanted()) return false;
        if (op !== null) {
          await this.#begin(op);
          continue;
        }
        const isIdle = this.#writes.length === 0 && performance.now() - this.#lastOpMs >= times.idleMs;
        if (isIdle && (await this.#park('if-possible'))) return true;
        await notice.wait(times.lookMs, this.#over.signal);
      }
      return false;
    } finally {
      notice.close();
    }
  }

  /** Gives an op to the trainer, once there is room for it. */
  async #begin(op: QueuedSessionOp): Promise<void> {
    const seq = this.#nextSeq++;
    // It awaits files before the trainer hears of it, so nothing may pass it.
    const isAlone = op.kind !== 'forward-backward' && op.kind !== 'optimizer-step';
    while (this.#writes.length >= (isAlone ? 1 : OPS_AT_ONCE)) await this.#writes[0];
    const result = this.#resultOf(op);
    const before = this.#writes.at(-1);
    const write: Promise<void> = Promise.all([result, before])
      .then(async ([done]) => {
        // Where its session has ended, its failure is that.
        if (this.#signals.ending.aborted) return;
        this.#isChanged = true;
        await this.#claimed.end(seq, done);
      })
      .finally(() => {
        void this.#writes.splice(this.#writes.indexOf(write), 1);
        this.#lastOpMs = performance.now();
      });
    this.#writes.push(write);
    // Whoever awaits it next throws.
    void write.catch(() => this.#over.abort());
    if (isAlone) await write;
  }

  async #resultOf(op: QueuedSessionOp): Promise<QueuedSessionResult> {
    try {
      switch (op.kind) {
        case 'forward-backward': {
          const targetsEach = op.data.map((datum) => datum.targetsEach);
          return queued(await this.#session.do(op), targetsEach);
        }
        case 'optimizer-step':
          return queued(await this.#session.do(op), []);
        case 'save-checkpoint':
          return await this.#saveCheckpoint(op);
        case 'save-snapshot': {
          const { snapshots } = this.#options;
          const what = { id: op.snapshot, whole: false };
          const saved = await saveSnapshot(snapshots, this.#claimed.model, this.#session, what);
          if (saved.kind === 'failed') return saved;
          await this.#claimed.writeSampler(op.sampler);
          return { kind: 'snapshot-saved', sampler: op.sampler.id };
        }
        case 'load': {
          const what = { withOptimizer: op.withOptimizer, withGradient: false };
          const failure = await loadFrom(this.#options.adapters, op.adapter, this.#session, what);
          return failure ?? { kind: 'loaded', path: op.path };
        }
        case 'refused':
          return op.failure;
      }
    } catch (error) {
      const known = asStorageError(error);
      if (known instanceof ProductError) return failureOf(known, known.message);
      this.#options.log.error({ err: error }, 'a call of a training session failed');
      return failureOf({ code: 'internal_error' }, 'The call failed; the log of the worker says why.');
    }
  }

  async #saveCheckpoint(op: Extract<QueuedSessionOp, { kind: 'save-checkpoint' }>): Promise<QueuedSessionResult> {
    const { adapter, checkpoint, withOptimizer, expires_at, user_metadata } = op;
    const { model } = this.#claimed;
    const what = { adapter, withOptimizer, ...checkpoint };
    const result = await saveCheckpoint(this.#options.adapters, model, this.#session, what);
    if (result.kind === 'failed') return result;
    // After the adapter is there. Dead in between, the worker leaves an adapter that the page shows, and the call is done again.
    await this.#claimed.writeCheckpoint({
      ...{ ...checkpoint, adapter, base_model: model.record.spec.base_model, bytes: result.bytes },
      ...{ created_at: new Date().toISOString(), expires_at, public: false, user_metadata },
    });
    return { ...result, checkpoint };
  }

  /** True if the trainer is to take another base, or to be replaced. */
  async #isBaseWanted(): Promise<boolean> {
    const { pool, times, isOtherWaiting } = this.#options;
    const now = performance.now();
    if (now - this.#openedMs < times.sliceMs || now - this.#lastLookMs < times.lookMs) return false;
    this.#lastLookMs = now;
    const { base_model: baseModel } = this.#claimed.model.record.spec;
    const possible = pool.generatableModel();
    if (possible === null || (possible.baseModel ?? baseModel) !== baseModel) return true;
    // Where jobs hold the base, leaving it helps nobody.
    return pool.capacity()?.isIdle === true && (await isOtherWaiting(baseModel));
  }

  /**
   * Keeps the model as it is in a snapshot, and gives it back.
   * @param how - `now`: a model that cannot be kept ends. `if-possible`: it stays here.
   * @returns true if it is no longer this worker's
   */
  async #park(how: 'now' | 'if-possible'): Promise<boolean> {
    const { snapshots, log } = this.#options;
    if (!this.#isChanged) {
      await this.#claimed.giveBack(null);
      return true;
    }
    const id = newSnapshotId();
    const saved = await saveSnapshot(snapshots, this.#claimed.model, this.#session, { id, whole: true }).catch(
      (error: unknown) => failureOf({ code: 'internal_error' }, (error as Error).message),
    );
    if (saved.kind === 'failed') {
      log.warn({ model: this.#claimed.model.id, failure: saved }, 'a model in training could not be parked');
      if (how === 'if-possible') {
        this.#lastOpMs = performance.now();
        return false;
      }
      await this.#claimed.fail(
        `The worker had to leave the model, and could not keep it: ${saved.message} ${FROM_SAVED}`,
      );
      return true;
    }
    // Dead in between, the worker leaves a snapshot that nobody knows; see removeLostSnapshots.
    const unneeded = await this.#claimed.giveBack(id);
    if (unneeded !== null) await snapshots.delete(unneeded);
    return true;
  }

  /** Its trainer has ended. */
  async #giveUp(end: SessionEnd): Promise<void> {
    const why = end.kind === 'failed' ? end.failure.message : 'Its trainer has closed it.';
    if (!this.#isChanged) await this.#claimed.giveBack(null, this.#options.times.lookMs);
    else await this.#claimed.fail(`${why} What was trained since the last save is lost. ${FROM_SAVED}`);
  }
}

const FROM_SAVED = 'Create a training client from the last saved state.';

interface RunSignals {
  ending: AbortSignal;
  stopping: AbortSignal;
}

function queued(result: SessionResult, targetsEach: number[]): QueuedSessionResult {
  switch (result.kind) {
    case 'forward-backward':
      return { ...result, targetsEach };
    case 'optimizer-step':
    case 'failed':
      return result;
    default:
      throw new Error(`The trainer answers a call with ${result.kind}`);
  }
}
