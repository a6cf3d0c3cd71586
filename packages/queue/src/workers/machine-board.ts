import { MachineProfile } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import type { JobKeys } from '../keys.js';

export interface MachineBoardOptions {
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
