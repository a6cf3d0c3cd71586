import { MachineProfile } from '@lorasmith/contracts';
import { onRedis } from '@lorasmith/redis';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import type { JobKeys } from './keys.js';

/** The profiles that workers have measured of their machines. */
export interface MachineBoard {
  /** Replaces the earlier profile of this worker. */
  publish(profile: MachineProfile): Promise<void>;
  /** The most recent one; null if no worker has measured its machine yet. */
  latest(): Promise<MachineProfile | null>;
  /** The profiles of all workers that have measured their machine, by name, also of those that do not run now. */
  list(): Promise<MachineProfile[]>;
}

/** @throws ProductError `redis_unavailable` from every call if Redis cannot be reached */
export function createMachineBoard({ redis, keys }: { redis: Redis; keys: JobKeys }): MachineBoard {
  const key = keys.machines;
  const all = async () => Object.values(await onRedis(() => redis.hgetall(key))).flatMap(parsed);
  return {
    async publish(profile) {
      await onRedis(() => redis.hset(key, profile.worker, JSON.stringify(profile)));
    },
    async latest() {
      const profiles = await all();
      return profiles.sort((a, b) => b.measured_at.localeCompare(a.measured_at))[0] ?? null;
    },
    async list() {
      const profiles = await all();
      return profiles.sort((a, b) => a.worker.localeCompare(b.worker));
    },
  };
}

/** A worker of another version may have written a profile of another shape. Such a profile is ignored. */
function parsed(text: string): MachineProfile[] {
  const profile: unknown = JSON.parse(text);
  return Value.Check(MachineProfile, profile) ? [profile] : [];
}
