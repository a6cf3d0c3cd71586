import { randomUUID } from 'node:crypto';
import { pause } from '@lorasmith/concurrency';
import { type ModelPull, type ModelPullId, ProductError, publicText } from '@lorasmith/contracts';
import { asStorageError } from '@lorasmith/storage';
import type { Logger } from 'pino';
import { pullFolder, sweepPullFolders } from './pull-folder.js';
import { createPullProgress, type PullModelOptions, pullModel } from './pull-model.js';
import type { PullStore } from './pull-store.js';

export interface PullerOptions extends Pick<PullModelOptions, 'hub' | 'destination' | 'limits'> {
  pulls: PullStore;
  log: Logger;
  /** @defaultValue 1 s */
  intervalMs?: number;
}

export interface Puller {
  /** Why it works on nothing: null if it does. */
  hindrance(): string | null;
  /** Stops, and leaves unfinished pulls to the next puller, which resumes them. */
  close(): Promise<void>;
}

/** Pulls at once. Further ones wait. */
const AT_ONCE = 2;
const INTERVAL_MS = 1_000;
/** Staged files of a failed pull. */
const KEPT_MS = 7 * 24 * 3_600_000;
const SWEEP_INTERVAL_MS = 3_600_000;

class CancelledError extends Error {}
/** The lease was lost to another puller, or this one ends. */
class LeftError extends Error {}

/** Works on the pulls that the api has queued, and continues those that a puller which died has left. */
export function startPuller(options: PullerOptions): Puller {
  const { pulls, log, destination, intervalMs = INTERVAL_MS } = options;
  const self = randomUUID();
  const running = new Map<ModelPullId, { done: Promise<void>; stop(): void }>();
  let closing = false;
  let problem: string | null = 'it is starting';
  let sweptAt = 0;

  const look = async () => {
    const open = await pulls.announce();
    problem = null;
    for (const id of open) {
      if (closing || running.size >= AT_ONCE) return;
      if (running.has(id)) continue;
      const pull = await pulls.claim(id, self);
      if (pull !== null) work(pull);
    }
    if (Date.now() - sweptAt > SWEEP_INTERVAL_MS) {
      sweptAt = Date.now();
      const names = new Set((await pulls.list()).filter(({ id }) => open.includes(id)).map(({ name }) => name));
      const swept = await sweepPullFolders(destination.stagingDir, (name) => names.has(name), KEPT_MS);
      if (swept > 0) log.info({ swept }, 'removed the files of pulls that nobody continued');
    }
  };

  const work = (pull: ModelPull) => {
    const controller = new AbortController();
    const stop = () => controller.abort(new LeftError('the puller ends'));
    const done = workOn(pull, controller, { ...options, self, intervalMs })
      .catch((error: unknown) => log.error({ pull: pull.id, err: error }, 'a pull was left to the next puller'))
      .finally(() => running.delete(pull.id));
    running.set(pull.id, { done, stop });
  };

  const looking = repeat(look, intervalMs, (error) => {
    if (problem === null) log.warn({ err: error }, 'the queued pulls cannot be read');
    problem = error instanceof Error ? error.message : String(error);
  });

  return {
    hindrance: () => problem,
    async close() {
      closing = true;
      await looking.stop();
      for (const { stop } of running.values()) stop();
      await Promise.all([...running.values()].map(({ done }) => done));
    },
  };
}

type WorkOptions = PullerOptions & { self: string; intervalMs: number };

/** Runs one pull and keeps its record and lease up to date. */
async function workOn(claimed: ModelPull, controller: AbortController, options: WorkOptions): Promise<void> {
  const { pulls, self, log, destination, intervalMs } = options;
  const { signal } = controller;
  const progress = createPullProgress(claimed);
  const started: ModelPull = {
    ...claimed,
    status: 'pulling',
    started_at: claimed.started_at ?? new Date().toISOString(),
    error: null,
  };
  const about = { pull: claimed.id, name: claimed.name, repo: claimed.repo };
  log.info({ ...about, revision: claimed.revision }, 'pulling a base model');

  const write = async () => {
    const outcome = await pulls.write({ ...started, ...progress.snapshot() }, self);
    if (outcome === 'lost') controller.abort(new LeftError('another puller has the pull'));
    if (outcome === 'cancel') controller.abort(new CancelledError('cancelled'));
  };
  const confirm = async () => {
    await write();
    signal.throwIfAborted();
  };
  // While Redis is away the pull goes on. Its lease may run out then, which the next write notices.
  const writing = repeat(write, intervalMs, (error) => log.warn({ ...about, err: error }, 'progress was not written'));
  let end: Pick<ModelPull, 'status' | 'error'> | null;
  try {
    await pullModel(claimed, { ...options, signal, progress, confirm });
    end = { status: 'succeeded', error: null };
  } catch (error) {
    end = signal.reason instanceof LeftError ? null : endOf(error, signal.reason);
    if (end?.status === 'failed') log.warn({ ...about, err: error }, 'a pull failed');
  } finally {
    await writing.stop();
  }
  if (end === null) return await pulls.release(claimed.id, self);
  if (end.status === 'cancelled') await pullFolder(destination.stagingDir, claimed.name).remove();
  const ended = { ...started, ...progress.snapshot(), ...end, ended_at: new Date().toISOString() };
  await pulls.write(ended, self);
  log.info({ ...about, commit: ended.commit, bytes: ended.total_bytes }, `the pull has ${end.status}`);
}

function endOf(error: unknown, reason: unknown): Pick<ModelPull, 'status' | 'error'> {
  if (reason instanceof CancelledError) return { status: 'cancelled', error: null };
  const known = asStorageError(error);
  if (known instanceof ProductError) {
    return { status: 'failed', error: { code: known.code, message: publicText(known).message } };
  }
  return {
    status: 'failed',
    error: { code: 'internal_error', message: 'Internal error. The log of the puller has it.' },
  };
}

/** Calls again and again, one call after the other, until it is stopped. */
function repeat(call: () => Promise<void>, intervalMs: number, onError: (error: unknown) => void) {
  const stopped = new AbortController();
  const done = (async () => {
    while (!stopped.signal.aborted) {
      await call().catch(onError);
      await pause(intervalMs, stopped.signal);
    }
  })();
  return {
    stop: async () => {
      stopped.abort();
      await done;
    },
  };
}
