import type { Redis } from 'ioredis';
import type { JobKeys } from './keys.js';

/** What every part of the store needs. */
export interface StoreDeps {
  redis: Redis;
  keys: JobKeys;
  /** The time in milliseconds. */
  now: () => number;
}
