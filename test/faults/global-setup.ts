import { access, cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { SERVICE_PROGRAMS } from '../../scripts/stack/service-programs.mjs';
import { writeTinyLlama } from '../tiny-llama.js';
import { submit, type Undisturbed } from './stand/accepted-jobs.js';
import { startStand } from './stand/fault-stand.js';
import { BASE_MODEL, JOB_KINDS } from './stand/jobs-of-the-suite.js';

declare module 'vitest' {
  export interface ProvidedContext {
    modelsDir: string;
    machinesDir: string;
    undisturbed: Undisturbed;
  }
}

/** Runs each kind of job once undisturbed: every disturbed run must have the same result. */
export default async function globalSetup({ provide }: TestProject): Promise<() => Promise<void>> {
  for (const { program } of SERVICE_PROGRAMS) {
    await access(program).catch(() => {
      throw new Error(`${program} is missing: compile the packages first (npm run build)`);
    });
  }
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-undisturbed-'));
  const modelsDir = path.join(folder, 'models');
  const machinesDir = path.join(folder, 'machines');
  await writeTinyLlama(path.join(modelsDir, BASE_MODEL));
  const stand = await startStand({ modelsDir });
  try {
    await Promise.all([stand.startRegistry(), stand.startWorker('undisturbed')]);
    await stand.startApi();
    const results: Partial<Undisturbed> = {};
    for (const kind of JOB_KINDS) {
      const { id } = await submit(stand, kind);
      const job = await stand.client.waitForJob(id);
      if (job.status !== 'succeeded') throw new Error(`the undisturbed job failed: ${JSON.stringify(job.error)}`);
      const { files } = await stand.client.manifest(job.adapter ?? '');
      const digest = (name: string) => files.find((file) => file.name === name)?.sha256 ?? '';
      results[kind] = { config: digest('adapter_config.json'), weights: digest('adapter_model.safetensors') };
    }
    // If the machine was too busy to be measured, there is nothing to copy, and every worker measures it.
    await mkdir(path.join(stand.dataDir, 'machines'), { recursive: true });
    await cp(path.join(stand.dataDir, 'machines'), machinesDir, { recursive: true });
    provide('undisturbed', results as Undisturbed);
  } finally {
    await stand.close();
  }
  provide('modelsDir', modelsDir);
  provide('machinesDir', machinesDir);
  return () => rm(folder, { recursive: true, force: true });
}
