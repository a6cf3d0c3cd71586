import { execFile } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import { startOwnRedis } from './real-redis.js';
import { HAS_ALL_CASES } from './usual-cases.js';

declare module 'vitest' {
  export interface ProvidedContext {
    machinesDir: string;
    /** The Redis of all test files, which isolate themselves by a prefix. */
    redisUrl: string;
  }
}

const WRITE_PROFILE = fileURLToPath(new URL('write-machine-profile.mjs', import.meta.url));

/**
 * Provides one folder with the profile of this machine, which each new worker would measure, and one Redis. Continuous integration
 * measures the machine, once.
 */
export default async function globalSetup({ provide }: TestProject): Promise<() => Promise<void>> {
  // Each project has its own set-up, in this one process.
  const folder = path.join(tmpdir(), `lorasmith-machines-${process.pid}`);
  const machinesDir = path.join(folder, 'machines');
  await mkdir(machinesDir, { recursive: true });
  if ((await readdir(machinesDir)).length === 0) {
    await promisify(execFile)(process.execPath, [WRITE_PROFILE, folder, ...(HAS_ALL_CASES ? ['--measure'] : [])]);
  }
  provide('machinesDir', machinesDir);
  const redis = process.env.REDIS_URL ? null : await startOwnRedis();
  provide('redisUrl', redis?.url ?? process.env.REDIS_URL ?? '');
  return async () => {
    await redis?.stop();
    await rm(folder, { recursive: true, force: true });
  };
}
