import { MachineProfile } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import type { JobKeys } from './keys.js';
import { onRedis } from './redis-errors.js';

/** The profiles that workers have measured of their machines. */
export interface MachineBoard {
  /** Replaces the earlier profile of this worker. */
  publish(profile: MachineProfile): Promise<void>;
  /** The most recent one; null if no worker has measured its machine yet. */
  latest(): Promise<MachineProfile | null>;
}

/** @throws ProductError `redis_unavailable` from every call if Redis cannot be reached */
export function createMachineBoard({ redis, keys }: { redis: Redis; keys: JobKeys }): MachineBoard {
  const key = keys.machines;
  return {
    async publish(profile) {
      await onRedis(() => redis.hset(key, profile.worker, JSON.stringify(profile)));
    },
    async latest() {
      const profiles = Object.values(await onRedis(() => redis.hgetall(key))).flatMap(parsed);
      return profiles.sort((a, b) => b.measured_at.localeCompare(a.measured_at))[0] ?? null;
    },
  };
}

/** A worker of another version may have written a profile of another shape. Such a profile is ignored. */
function parsed(text: string): MachineProfile[] {
  const profile: unknown = JSON.parse(text);
  return Value.Check(MachineProfile, profile) ? [profile] : [];
}
