import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { startOwnRedis } from './real-redis.js';

declare module 'vitest' {
  export interface ProvidedContext {
    machinesDir: string;
    /** The Redis of all test files, which isolate themselves by a prefix. */
    redisUrl: string;
  }
}

/** Provides one folder for the measurements of this machine, which takes each new worker seconds, and one Redis. */
export default async function globalSetup({ provide }: TestProject): Promise<() => Promise<void>> {
  // Each project has its own set-up, in this one process.
  const machinesDir = path.join(tmpdir(), `lorasmith-machines-${process.pid}`);
  await mkdir(machinesDir, { recursive: true });
  provide('machinesDir', machinesDir);
  const redis = process.env.REDIS_URL ? null : await startOwnRedis();
  provide('redisUrl', redis?.url ?? process.env.REDIS_URL ?? '');
  return async () => {
    await redis?.stop();
    await rm(machinesDir, { recursive: true, force: true });
  };
}
