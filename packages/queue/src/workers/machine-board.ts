import { MachineProfile } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import type { JobKeys } from '../keys.js';
import { onRedis } from '../redis/redis-errors.js';

/** The profiles that workers have measured of their machines. */
export interface MachineBoard {
  /**
   * Replaces the earlier profile of this worker, and those of workers with such a machine that do not run any more: where workers come
   * and go, each has another name.
   */
  publish(profile: MachineProfile): Promise<void>;
  /**
   * The machine that a job is planned for, before it is known which worker trains it: the one with the most memory, measured last, of
   * the workers that run; of all if none runs. Null if no worker has measured its machine yet.
   *
   * @param startedMemory - The memory of the largest class of workers that are started as they are needed; null: there are none. They
   * count although none of them may run now.
   */
  forPlanning(startedMemory?: number | null): Promise<MachineProfile | null>;
  /** The profiles of all workers that have measured their machine, by name, also of those that do not run now. */
  list(): Promise<MachineProfile[]>;
}

export interface MachineBoardOptions {
  redis: Redis;
  keys: JobKeys;
  /** The workers that run, by name. */
  running: () => Promise<ReadonlyMap<string, unknown>>;
}

/** @throws ProductError `redis_unavailable` from every call if Redis cannot be reached */
export function createMachineBoard({ redis, keys, running }: MachineBoardOptions): MachineBoard {
  const key = keys.machines;
  const all = async () => Object.values(await onRedis(() => redis.hgetall(key))).flatMap(parsed);
  return {
    async publish(profile) {
      await onRedis(() => redis.hset(key, profile.worker, JSON.stringify(profile)));
      const [profiles, now] = await Promise.all([all(), onRedis(running)]);
      const gone = profiles.filter(
        (one) => one.worker !== profile.worker && !now.has(one.worker) && isAlike(one, profile),
      );
      if (gone.length > 0) await onRedis(() => redis.hdel(key, ...gone.map(({ worker }) => worker)));
    },
    async forPlanning(startedMemory = null) {
      const [profiles, now] = await Promise.all([all(), onRedis(running)]);
      const known = profiles.filter(({ worker }) => now.has(worker));
      const [largest] = (known.length === 0 || startedMemory !== null ? profiles : known).sort(
        (a, b) => b.memory_bytes - a.memory_bytes || b.measured_at.localeCompare(a.measured_at),
      );
      if (largest === undefined) return null;
      return { ...largest, memory_bytes: Math.max(largest.memory_bytes, startedMemory ?? 0) };
    },
    async list() {
      const profiles = await all();
      return profiles.sort((a, b) => a.worker.localeCompare(b.worker));
    },
  };
}

/** Whether two machines are of one kind. */
function isAlike(one: MachineProfile, other: MachineProfile): boolean {
  const kind = ({ processor, engine }: MachineProfile) => [processor, engine.kind, engine.card?.name].join();
  return kind(one) === kind(other);
}

/** A worker of another version may have written a profile of another shape. Such a profile is ignored. */
function parsed(text: string): MachineProfile[] {
  const profile: unknown = JSON.parse(text);
  return Value.Check(MachineProfile, profile) ? [profile] : [];
}
