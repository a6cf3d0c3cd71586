import { WORKER_START_PHASES, type WorkerStartPhase } from '@lorasmith/contracts';
import { jobKeys } from '../keys.js';
import { queueTime, type StoreDeps } from '../store-deps.js';

/** The time after which a worker that says nothing more does not run. */
export const WORKER_GONE_MS = 20_000;

/** The phases of workers that have not taken a job yet. */
export interface WorkerStarts {
  /** Records what a worker does. It must be repeated within some seconds. */
  announce(worker: string, phase: WorkerStartPhase): Promise<void>;
  /** Records that a worker has started, or will not. */
  end(worker: string): Promise<void>;
  /** The phase of the worker that is the nearest to its first job; null: no worker starts. */
  nearest(at: number): Promise<WorkerStartPhase | null>;
}

/** The same for a process without a job store: the worker, before it measures its machine. */
export function openWorkerStarts({ prefix, ...deps }: Omit<StoreDeps, 'keys'> & { prefix: string }): WorkerStarts {
  return createWorkerStarts({ ...deps, keys: jobKeys(prefix) });
}

export function createWorkerStarts(deps: StoreDeps): WorkerStarts {
  const { redis } = deps;
  const key = deps.keys.workerStarts;
  return {
    async announce(worker, phase) {
      await redis.hset(key, worker, JSON.stringify({ phase, seen_at: await queueTime(deps) }));
    },
    async end(worker) {
      await redis.hdel(key, worker);
    },
    async nearest(at) {
      const phases = Object.values(await redis.hgetall(key)).flatMap((text) => {
        const { phase, seen_at } = JSON.parse(text) as { phase: WorkerStartPhase; seen_at: number };
        return at - seen_at < WORKER_GONE_MS ? [phase] : [];
      });
      return WORKER_START_PHASES.findLast((phase) => phases.includes(phase)) ?? null;
    },
  };
}
