import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../../packages/client/src/index.js';
import type { AdapterFile, AdapterManifest, Dataset } from '../../../packages/contracts/src/index.js';
import { openSafetensors } from '../../../packages/weight-files/src/index.js';

/** Checks continuously what is visible in the data folder and through the api. */
export interface Watch {
  /** The number of checks of everything. */
  rounds(): number;
  /** @returns what was visible and must not be, one line each */
  end(): Promise<string[]>;
}

const PAUSE_MS = 40;

/**
 * Nothing incomplete is ever visible: each dataset matches its digest, each adapter has all its files and they match
 * theirs, both have an entry in the index, each merged model and GGUF file matches its record, each checkpoint is complete, and everything that the api lists can be fetched.
 */
export function watchForIncompleteFiles({ dataDir, client }: { dataDir: string; client: Client }): Watch {
  const seen = new Set<string>();
  const complete = new Set<string>();
  let rounds = 0;
  let over = false;

  const look = async (place: string, check: (place: string) => Promise<void>) => {
    // Published files never change, so one check of each is enough.
    if (complete.has(place)) return;
    try {
      await check(place);
      complete.add(place);
    } catch (error) {
      // It may have been removed meanwhile; then nothing of it is left.
      const isThere = await stat(place).then(
        () => true,
        () => false,
      );
      if (isThere) seen.add(`${place}: ${(error as Error).message}`);
    }
  };

  const round = async () => {
    for (const id of await namesIn(path.join(dataDir, 'datasets')))
      await look(path.join(dataDir, 'datasets', id), checkDataset);
    for (const id of await namesIn(path.join(dataDir, 'adapters')))
      await look(path.join(dataDir, 'adapters', id), checkAdapter);
    for (const id of await namesIn(path.join(dataDir, 'merged')))
      await look(path.join(dataDir, 'merged', id), checkMerged);
    for (const job of await namesIn(path.join(dataDir, 'jobs'))) {
      const folder = path.join(dataDir, 'jobs', job, 'checkpoints');
      for (const name of await namesIn(folder)) {
        if (name.endsWith('.safetensors')) await look(path.join(folder, name), checkSafetensors);
      }
    }
    await lookAtLists();
    rounds++;
  };

  const lookAtLists = async () => {
    // The api may be down; when it answers, the answer must be right.
    const adapters = await client.listAdapters({}, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    for (const { id } of adapters?.data ?? []) {
      if (complete.has(id)) continue;
      const manifest = await client.manifest(id).catch(() => null);
      const files = await client.adapterFiles(id).catch(() => null);
      if (manifest === null || files === null) continue;
      const listed = files.map(({ name, sha256 }) => `${name} ${sha256}`);
      const missing = manifest.files.filter(({ name, sha256 }) => !listed.includes(`${name} ${sha256}`));
      if (missing.length > 0) seen.add(`the api shows ${id} without ${missing.map(({ name }) => name).join()}`);
      else complete.add(id);
    }
  };

  const watching = (async () => {
    while (!over) {
      await round();
      await sleep(PAUSE_MS);
    }
  })();
  // end() reports it.
  watching.catch(() => {});
  return {
    rounds: () => rounds,
    async end() {
      over = true;
      await watching;
      await round();
      return [...seen];
    },
  };
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => []);
}

const sha256 = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

/** The index is in the folder of the data, beside that of the kind. */
async function checkEntry(folder: string): Promise<void> {
  const kind = path.dirname(folder);
  const names = await namesIn(path.join(path.dirname(kind), '.index', path.basename(kind), 'all'));
  if (!names.some((name) => name.includes(`~${path.basename(folder)}~`)))
    throw new Error('it has no entry in the index');
}

async function checkDataset(folder: string): Promise<void> {
  await checkEntry(folder);
  const record = JSON.parse(await readFile(path.join(folder, 'dataset.json'), 'utf8')) as Dataset;
  if ((await sha256(path.join(folder, 'data.jsonl'))) !== record.sha256)
    throw new Error('its rows are not those of its digest');
}

async function checkAdapter(folder: string): Promise<void> {
  await checkEntry(folder);
  const manifest = JSON.parse(await readFile(path.join(folder, 'manifest.json'), 'utf8')) as AdapterManifest;
  for (const { name, sha256: expected } of manifest.files) {
    if ((await sha256(path.join(folder, name))) !== expected) throw new Error(`${name} is not as its manifest says`);
  }
  await checkSafetensors(path.join(folder, 'adapter_model.safetensors'));
}

async function checkMerged(folder: string): Promise<void> {
  const record = await readFile(path.join(folder, 'merged-files.json'), 'utf8');
  for (const { name, sha256: expected } of (JSON.parse(record) as { files: AdapterFile[] }).files) {
    if ((await sha256(path.join(folder, name))) !== expected) throw new Error(`${name} is not as its record says`);
  }
}

/** Opening checks that the file is exactly as long as its header says. */
async function checkSafetensors(file: string): Promise<void> {
  await (await openSafetensors(file)).close();
}
