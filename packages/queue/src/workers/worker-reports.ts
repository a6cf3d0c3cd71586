import {
  type JobId,
  type MachineLoad,
  MachineProfile,
  WORKER_START_PHASES,
  type WorkerStartPhase,
} from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import { type JobKeys, jobKeys, queueTime, type StoreDeps } from '../keys.js';
import type { WarmWorker } from '../queue/choose-next.js';

/** The time after which a worker that says nothing more does not run. */
const WORKER_GONE_MS = 20_000;

/** The report of a worker about itself, as it is stored. */
export interface WorkerPresence {
  slots: number;
  /** The jobs that it has leased. */
  held: JobId[];
  /** The class of the worker; empty or left out: none. */
  workerClass?: string;
  /** The base in its memory, if it has a free slot for jobs on it; null or left out: none. */
  warm?: WarmWorker | null;
  /** The load of its machine; null or left out: unknown. */
  load?: MachineLoad | null;
}

/** The workers that run, as they last said. */
export class WorkerPresences {
  readonly #deps: StoreDeps;

  constructor(deps: StoreDeps) {
    this.#deps = deps;
  }

  /** Records that a worker runs, and its jobs. It must be repeated within some seconds. */
  async announce(worker: string, presence: WorkerPresence): Promise<void> {
    const { redis, keys } = this.#deps;
    const text = JSON.stringify({ ...presence, seen_at: await queueTime(this.#deps) });
    await redis.hset(keys.queueWorkers, worker, text);
  }

  /** Records that a worker does not run any more. */
  async leave(worker: string): Promise<void> {
    await this.#deps.redis.hdel(this.#deps.keys.queueWorkers, worker);
  }

  /** The workers that run at a time, by name. */
  async at(timeMs: number): Promise<Map<string, WorkerPresence>> {
    const { redis, keys } = this.#deps;
    return new Map(
      Object.entries(await redis.hgetall(keys.queueWorkers)).flatMap(([worker, text]) => {
        const { seen_at, ...presence } = JSON.parse(text) as WorkerPresence & { seen_at: number };
        return timeMs - seen_at < WORKER_GONE_MS ? [[worker, presence] as const] : [];
      }),
    );
  }
}

/** The phases of workers that have not taken a job yet. */
export class WorkerStarts {
  readonly #deps: StoreDeps;

  constructor(deps: StoreDeps) {
    this.#deps = deps;
  }

  /** Records what a worker does. It must be repeated within some seconds. */
  async announce(worker: string, phase: WorkerStartPhase): Promise<void> {
    const { redis, keys } = this.#deps;
    await redis.hset(keys.workerStarts, worker, JSON.stringify({ phase, seen_at: await queueTime(this.#deps) }));
  }

  /** Records that a worker has started, or will not. */
  async end(worker: string): Promise<void> {
    await this.#deps.redis.hdel(this.#deps.keys.workerStarts, worker);
  }

  /** The phase of the worker that is the nearest to its first job; null: no worker starts. */
  async nearest(at: number): Promise<WorkerStartPhase | null> {
    const phases = Object.values(await this.#deps.redis.hgetall(this.#deps.keys.workerStarts)).flatMap((text) => {
      const { phase, seen_at } = JSON.parse(text) as { phase: WorkerStartPhase; seen_at: number };
      return at - seen_at < WORKER_GONE_MS ? [phase] : [];
    });
    return WORKER_START_PHASES.findLast((phase) => phases.includes(phase)) ?? null;
  }
}

/** The starts for a process without a job store: the worker, before it measures its machine. */
export function openWorkerStarts({ prefix, ...deps }: Omit<StoreDeps, 'keys'> & { prefix: string }): WorkerStarts {
  return new WorkerStarts({ ...deps, keys: jobKeys(prefix) });
}

interface MachineBoardOptions {
  redis: Redis;
  keys: JobKeys;
  /** The workers that run, by name. */
  running: () => Promise<ReadonlyMap<string, unknown>>;
}

/** The profiles that workers have measured of their machines. */
export class MachineBoard {
  readonly #options: MachineBoardOptions;

  constructor(options: MachineBoardOptions) {
    this.#options = options;
  }

  /**
   * Replaces the earlier profile of this worker, and those of workers with such a machine that do not run any more: where workers come
   * and go, each has another name.
   */
  async publish(profile: MachineProfile): Promise<void> {
    const { redis, keys, running } = this.#options;
    await redis.hset(keys.machines, profile.worker, JSON.stringify(profile));
    const [profiles, now] = await Promise.all([this.#all(), running()]);
    const gone = profiles.filter(
      (one) => one.worker !== profile.worker && !now.has(one.worker) && isAlike(one, profile),
    );
    if (gone.length > 0) await redis.hdel(keys.machines, ...gone.map(({ worker }) => worker));
  }

  /**
   * The machine that a job is planned for, before it is known which worker trains it: the one with the most memory, measured last, of
   * the workers that run; of all if none runs. Null if no worker has measured its machine yet.
   *
   * @param startedMemory - The memory of the largest class of workers that are started as they are needed; null: there are none. They
   * count although none of them may run now.
   */
  async forPlanning(startedMemory: number | null = null): Promise<MachineProfile | null> {
    const [profiles, now] = await Promise.all([this.#all(), this.#options.running()]);
    const known = profiles.filter(({ worker }) => now.has(worker));
    const [largest] = (known.length === 0 || startedMemory !== null ? profiles : known).sort(
      (a, b) => b.memory_bytes - a.memory_bytes || b.measured_at.localeCompare(a.measured_at),
    );
    if (largest === undefined) return null;
    return { ...largest, memory_bytes: Math.max(largest.memory_bytes, startedMemory ?? 0) };
  }

  /** The profiles of all workers that have measured their machine, by name, also of those that do not run now. */
  async list(): Promise<MachineProfile[]> {
    const profiles = await this.#all();
    return profiles.sort((a, b) => a.worker.localeCompare(b.worker));
  }

  async #all(): Promise<MachineProfile[]> {
    const { redis, keys } = this.#options;
    return Object.values(await redis.hgetall(keys.machines)).flatMap(parsed);
  }
}

/** True if two machines are of one kind. */
function isAlike(one: MachineProfile, other: MachineProfile): boolean {
  const kind = ({ processor, engine }: MachineProfile) => [processor, engine.kind, engine.card?.name].join();
  return kind(one) === kind(other);
}

/** A worker of another version may have written a profile of another shape. Such a profile is ignored. */
function parsed(text: string): MachineProfile[] {
  const profile: unknown = JSON.parse(text);
  return Value.Check(MachineProfile, profile) ? [profile] : [];
}
