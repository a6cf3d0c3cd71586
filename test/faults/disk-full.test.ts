import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { accountFor, submit } from './stand/accepted-jobs.js';
import { eventually } from './stand/eventually.js';
import { type FaultStand, startStand } from './stand/fault-stand.js';
import { openSmallDisk } from './stand/small-disk.js';

// The data folder is on a file system of 16 MB that the tests fill.

const undisturbed = inject('undisturbed');
const disk = await openSmallDisk();
if (disk === null) {
  console.log(
    'disk-full: skipped, since this system does not allow mounting a file system (unshare), not even in its own namespace',
  );
}
const KIBIBYTE = 1024;

let stand: FaultStand;

if (disk !== null) {
  beforeAll(async () => {
    const folders = { modelsDir: inject('modelsDir'), machinesDir: inject('machinesDir') };
    // The trainer tokenizes, not the api, so the first write at which the disk is full is that of the tokens.
    const env = { PREFLIGHT_BUDGET_MS: '0' };
    stand = await startStand({ ...folders, dataDir: path.join(disk.folder, 'data'), env });
    await Promise.all([stand.startRegistry(), stand.startWorker('one')]);
    await stand.startApi();
  });
  afterAll(async () => {
    await disk.free();
    await stand?.close();
    await disk.close();
  });
}

const stagings = async () => await readdir(path.join(stand.dataDir, '.staging'));

test.skipIf(disk === null)('an upload is refused, leaves nothing, and succeeds once there is space', async () => {
  const text = `${Array.from({ length: 2_000 }, (_, i) => JSON.stringify({ text: `row ${i}` })).join('\n')}\n`;
  for (const freeBytes of [0, 4 * KIBIBYTE, 24 * KIBIBYTE]) {
    await disk?.fill(freeBytes);
    await expect(stand.client.uploadDataset({ text })).rejects.toMatchObject({ code: 'storage_full', status: 507 });
    await eventually('nothing is left of it', async () => (await stagings()).length === 0);
    expect((await stand.client.listDatasets()).data).toEqual([]);
  }
  await disk?.free();
  expect((await stand.client.uploadDataset({ text })).rows).toBe(2_000);
});

test.skipIf(disk === null)('/ready says that the disk is full, until there is space', async () => {
  const ready = async () => {
    const answer = await fetch(`${stand.apiUrl}/ready`);
    const { error } = (await answer.json()) as { error?: { details: { code: string; param: string }[] } };
    return [answer.status, ...(error?.details ?? []).map(({ code, param }) => `${param} ${code}`)];
  };
  await disk?.fill(0);
  expect(await ready()).toEqual([503, 'data storage_full']);
  await disk?.free();
  expect(await ready()).toEqual([200]);
});

test.skipIf(disk === null)(
  'a job fails clearly at whichever write the disk is full, and leaves nothing incomplete',
  async () => {
    const statuses: string[] = [];
    // The disk becomes full at folders, the checkpoint, the adapter or its published copy: each needs a few pages more.
    for (const freeKibibytes of [0, 16, 40, 64, 1024]) {
      await disk?.free();
      const accepted = await submit(stand, 'short', async () => disk?.fill(freeKibibytes * KIBIBYTE));
      const [job] = await accountFor(stand, [accepted], undisturbed);
      statuses.push(job?.status ?? '');
      if (job?.status === 'failed') {
        expect(job.error?.code).toBe('storage_full');
        await disk?.free();
        await stand.client.deleteJob(accepted.id);
      }
    }
    expect(statuses[0]).toBe('failed');
    expect(statuses.at(-1)).toBe('succeeded');
  },
);

test.skipIf(disk === null)('a job that has an attempt left succeeds once there is space', async () => {
  const accepted = await submit(stand, 'short', async () => disk?.fill(0));
  await eventually('an attempt ends because the disk is full', async () => {
    const { attempts, status } = await stand.client.getJob(accepted.id);
    return attempts >= 1 && status === 'queued';
  });
  await disk?.free();
  const [job] = await accountFor(stand, [accepted], undisturbed);
  expect(job?.status).toBe('succeeded');
});

test.skipIf(disk === null)('a merge is refused, leaves nothing, and succeeds once there is space', async () => {
  const [job] = await accountFor(stand, [await submit(stand, 'short')], undisturbed);
  const url = `${stand.apiUrl}/adapters/${job?.adapter}?weights=merged`;
  for (const freeBytes of [0, 16 * KIBIBYTE, 128 * KIBIBYTE]) {
    await disk?.fill(freeBytes);
    const answer = await fetch(url);
    expect(await answer.json()).toMatchObject({ error: { code: 'storage_full' } });
    expect(answer.status).toBe(507);
    expect(await readdir(path.join(stand.dataDir, 'merged'))).toEqual([]);
    await eventually('nothing is left of it', async () => (await stagings()).length === 0);
  }
  await disk?.free();
  const answer = await fetch(url);
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
});
