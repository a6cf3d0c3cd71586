import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    machinesDir: string;
  }
}

/** Provides one folder for the measurements of this machine, which takes each new worker seconds. */
export default async function globalSetup({ provide }: TestProject): Promise<() => Promise<void>> {
  const machinesDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-machines-'));
  provide('machinesDir', machinesDir);
  return async () => await rm(machinesDir, { recursive: true, force: true });
}
