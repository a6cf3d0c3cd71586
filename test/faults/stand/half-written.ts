import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../../packages/client/src/index.js';
import type { AdapterManifest, Dataset } from '../../../packages/contracts/src/index.js';
import { openSafetensors } from '../../../packages/safetensors/src/index.js';

/** Looks all the while at what the product shows, in its folders and through its api. */
export interface Watch {
  /** How often everything was looked at. */
  rounds(): number;
  /** @returns what was seen that must never be seen, one line each */
  end(): Promise<string[]>;
}

const PAUSE_MS = 40;

/**
 * Nothing half-written is ever visible: each dataset has the bytes of its digest, each adapter all its files with theirs,
 * each checkpoint and each merged model is whole; and all that the api lists can be had.
 */
export function watchForHalfWritten({ dataDir, client }: { dataDir: string; client: Client }): Watch {
  const seen = new Set<string>();
  const whole = new Set<string>();
  let rounds = 0;
  let over = false;

  const look = async (place: string, check: (place: string) => Promise<void>) => {
    // What is published never changes, so one look at each is enough.
    if (whole.has(place)) return;
    try {
      await check(place);
      whole.add(place);
    } catch (error) {
      // It may have been removed between two looks; then it is gone as a whole.
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
    // The api may be away at the moment; what it says when it is there must be right.
    const adapters = await client.listAdapters({}, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    for (const { id } of adapters?.data ?? []) {
      if (whole.has(id)) continue;
      const manifest = await client.manifest(id).catch(() => null);
      const files = await client.adapterFiles(id).catch(() => null);
      if (manifest === null || files === null) continue;
      const listed = files.map(({ name, sha256 }) => `${name} ${sha256}`);
      const missing = manifest.files.filter(({ name, sha256 }) => !listed.includes(`${name} ${sha256}`));
      if (missing.length > 0) seen.add(`the api shows ${id} without ${missing.map(({ name }) => name).join()}`);
      else whole.add(id);
    }
  };

  const watching = (async () => {
    while (!over) {
      await round();
      await sleep(PAUSE_MS);
    }
  })();
  // Told by end().
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

async function checkDataset(folder: string): Promise<void> {
  const record = JSON.parse(await readFile(path.join(folder, 'dataset.json'), 'utf8')) as Dataset;
  if ((await sha256(path.join(folder, 'data.jsonl'))) !== record.sha256)
    throw new Error('its rows are not those of its digest');
}

async function checkAdapter(folder: string): Promise<void> {
  const manifest = JSON.parse(await readFile(path.join(folder, 'manifest.json'), 'utf8')) as AdapterManifest;
  for (const { name, sha256: expected } of manifest.files) {
    if ((await sha256(path.join(folder, name))) !== expected) throw new Error(`${name} is not as its manifest says`);
  }
  await checkSafetensors(path.join(folder, 'adapter_model.safetensors'));
}

async function checkMerged(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name.endsWith('.safetensors')) await checkSafetensors(path.join(folder, name));
  }
  await stat(path.join(folder, 'config.json'));
}

/** Opening checks that the file is exactly as long as its header says. */
async function checkSafetensors(file: string): Promise<void> {
  await (await openSafetensors(file)).close();
}
