import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { CardInUseError, lockCard } from './card-lock.js';

const HOLDER = fileURLToPath(new URL('../../test/fixtures/card-holder.mjs', import.meta.url));
const UUID = 'GPU-8f6b2c1e-5d0a-4a6e-9c3e-1f2d3c4b5a69';

let dataDir: string;
beforeEach(async () => {
  // Longer than the address of a socket may be.
  dataDir = path.join(await mkdtemp(path.join(tmpdir(), 'lorasmith-card-')), 'a'.repeat(120));
});
afterEach(() => rm(path.dirname(dataDir), { recursive: true, force: true }));

const hold = (workerName: string, patienceMs = 0, uuid = UUID) => lockCard({ dataDir, uuid, workerName, patienceMs });

test('one worker has a card; another is told which, and gets it once the first has ended', async () => {
  const release = await hold('one');
  await expect(hold('two')).rejects.toThrow(CardInUseError);
  await expect(hold('two')).rejects.toThrow(`Worker one already trains on the GPU ${UUID}.`);
  const other = await hold('two', 0, 'GPU-2');
  const waiting = hold('two', 10_000);
  await release();
  await (await waiting)();
  await other();
  expect(await readdir(path.join(dataDir, 'machines'))).toEqual([]);
});

test('of many at once, one gets it', async () => {
  const results = await Promise.allSettled(Array.from({ length: 8 }, (_, index) => hold(`worker-${index}`)));
  const held = results.filter((result) => result.status === 'fulfilled');
  expect(held).toHaveLength(1);
  await held[0]?.value();
});

test('a killed worker leaves a card that the next one gets', async () => {
  const holder = fork(HOLDER, [dataDir, UUID], { execArgv: [], stdio: 'inherit' });
  await once(holder, 'message');
  await expect(hold('next')).rejects.toThrow('Worker killed already trains');
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  expect(await readdir(path.join(dataDir, 'machines'))).toHaveLength(1);
  const release = await hold('next', 5_000);
  await release();
});
