import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openExampleStore } from '@lorasmith/planning';
import { createJobStore, type JobStore } from '@lorasmith/queue';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { prefix, redis, useRedis } from '../../../test/use-redis.js';
import { FolderSweeps } from '../src/folder-cleanup.js';
import { JobFolders } from '../src/job-folders.js';
import { startMaintenance } from '../src/maintenance.js';

let dataDir: string;
let store: JobStore;
let adapters: LocalBundleStore;

useRedis();
beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-maintenance-'));
  store = createJobStore({ redis, prefix });
  adapters = await openBundleStore({ root: dataDir, kind: 'adapters' });
});
afterEach(async () => {
  await store.close();
  await rm(dataDir, { recursive: true, force: true });
});

test('of several workers that start at once, one repairs the queue and cleans up for all', async () => {
  await mkdir(path.join(dataDir, 'jobs/job_000000000000000000000000'), { recursive: true });
  const done: string[] = [];
  let asked = 0;
  let allAsked = () => {};
  const everyoneAsked = new Promise<void>((resolve) => {
    allAsked = resolve;
  });
  const workers = 5;
  const whenDue: JobStore['whenDue'] = async (shared, work) => {
    const result = await store.whenDue(shared, (signal) => {
      done.push(shared.name);
      return work(signal);
    });
    asked++;
    if (asked === 6 * workers) allAsked();
    return result;
  };
  const datasets = await openBundleStore({ root: dataDir, kind: 'datasets' });
  const examples = await openExampleStore({ dataDir, maxBytes: 1e9 });
  const sweeps = new FolderSweeps({
    folders: new JobFolders({ dataDir }),
    retentionMs: 1e9,
    quotas: { ofKey: 1e9, inAll: 1e9 },
  });
  const ends = Array.from({ length: workers }, () =>
    startMaintenance({
      store: { ...store, whenDue },
      sweeps,
      adapters,
      datasets,
      sweepStagings: async () => 0,
      sessions: { endSilent: async () => {}, clean: async () => {}, isSnapshotKnown: async () => true },
      snapshots: adapters,
      examples,
      log: pino({ level: 'silent' }),
    }),
  );
  await everyoneAsked;
  await Promise.all(ends.map((end) => end()));
  expect(done.sort()).toEqual([
    'events-thinned',
    'job-folders-removed',
    'lost-snapshots-removed',
    'orphaned-adapters-removed',
    'queue-repaired',
    'snapshots-of-ended-sessions-removed',
  ]);
  expect(await readdir(path.join(dataDir, 'jobs'))).toEqual([]);
});
