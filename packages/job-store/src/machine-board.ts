import { MachineProfile } from '@lorasmith/contracts';
import type { Redis } from 'ioredis';
import { Value } from 'typebox/value';
import type { JobKeys } from './keys.js';
import { onRedis } from './redis-errors.js';

/** What the workers have measured of their machines. */
export interface MachineBoard {
  /** Replaces the earlier profile of this worker. */
  publish(profile: MachineProfile): Promise<void>;
  /** The most recent one; null if no worker has measured its machine yet. */
  latest(): Promise<MachineProfile | null>;
}

/** @throws ProductError `redis_unavailable` from every call when Redis does not answer */
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

/** A profile that a worker of another version wrote can have another shape. It is ignored. */
function parsed(text: string): MachineProfile[] {
  const profile: unknown = JSON.parse(text);
  return Value.Check(MachineProfile, profile) ? [profile] : [];
}
