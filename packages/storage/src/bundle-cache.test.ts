import { existsSync, renameSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type CachedBundle, openBundleCache } from './bundle-cache.js';
import { openLocalStagings } from './local-staging.js';

const BLOCK = 4_096;

let parent: string;

beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'lorasmith-cache-'));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

const bundle = (key: string, blocks: number): CachedBundle => ({
  ...{ key, id: 'ds_1', bytes: blocks * BLOCK },
  fetch: async (staging) => {
    await staging.write('a.bin', [Buffer.alloc(blocks * BLOCK, 1)]);
  },
});

/** A cache with space for sixteen blocks. */
async function openCache(name: string) {
  const root = path.join(parent, name);
  const cache = await openBundleCache({ root, maxBytes: 16 * BLOCK });
  const stagings = await openLocalStagings({ root, kind: 'cache' });
  return {
    root,
    cache,
    /** Adds a copy that nothing holds. */
    async adopt(of: CachedBundle): Promise<void> {
      const staging = await stagings.stage();
      await of.fetch(staging);
      await cache.adopt(of, staging);
      await staging.discard();
    },
  };
}

test('concurrent holds that remove the same copies for their own all succeed', async () => {
  for (let round = 0; round < 10; round++) {
    const { cache, adopt } = await openCache(`host-${round}`);
    for (let copy = 0; copy < 16; copy++) await adopt(bundle(`old-${copy}`, 1));
    const held = await Promise.all(['a', 'b', 'c', 'd'].map((name) => cache.lease(bundle(name, 4))));
    for (const { folder } of held) expect(await readdir(folder)).toEqual(['a.bin']);
    for (const { release } of held) release();
  }
});

test('a copy in use that is fetched again while it is to be removed stays until it is released', async () => {
  const { root, cache } = await openCache('host');
  const held = await cache.lease(bundle('a', 1));
  const copy = path.join(root, 'cache', 'a');
  // Leases of processes that died long ago, which are looked at meanwhile.
  for (let lease = 0; lease < 1_000; lease++) {
    const file = path.join(copy, 'leases', `dead-${lease}`);
    await writeFile(file, '');
    await utimes(file, 0, 0);
  }
  for (let round = 0; round < 5; round++) {
    const again = path.join(parent, 'again');
    await mkdir(path.join(again, 'leases'), { recursive: true });
    await cp(path.join(copy, 'content'), path.join(again, 'content'), { recursive: true });
    const removed = cache.remove('a');
    while (existsSync(copy)) await setImmediate();
    renameSync(again, copy);
    await removed;
    // Its lease holds whichever copy is there.
    await cache.remove('a');
    expect(await readFile(held.path('a.bin'))).toHaveLength(BLOCK);
  }
  held.release();
  const leases = async () => (await readdir(path.join(copy, 'leases'))).filter((name) => !name.startsWith('dead'));
  await expect.poll(leases).toEqual([]);
  await cache.remove('a');
  expect(existsSync(copy)).toBe(false);
  expect(await readdir(path.join(root, '.staging'))).toEqual([]);
});
