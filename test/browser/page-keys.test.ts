import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { createClient } from '../../packages/client/src/index.js';
import { createKey, runKeys } from '../api-keys.js';
import { heading, page, refusedWith, stack, tab, usePage } from './use-page.js';

// The page of a service with API keys: where a key is, and what it shows.

const REFERENCE = path.join(import.meta.dirname, '../fixtures/reference/llama-tied/adapter_init');
const ROW = `${JSON.stringify({ prompt: 'Say 1.', completion: ' It is 1.' })}\n`;
/** The message of the console when the service refuses a key, or has no such dataset for it. */
const REFUSED = refusedWith(401, 404);

usePage({ worker: false });

/** Two keys, each with a dataset. */
let owners: { key: string; dataset: string }[];

beforeAll(async () => {
  owners = await Promise.all(
    ['ours.jsonl', 'theirs.jsonl'].map(async (name) => {
      const key = await createKey(stack, 'train');
      const client = createClient({ baseUrl: stack.url, apiKey: key });
      const { id } = await client.uploadDataset({ blob: new Blob([ROW]) }, { name });
      return { key, dataset: id };
    }),
  );
});

async function enter(key: string): Promise<void> {
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Use this key' }).click();
}

test('what is no key is not sent, a wrong one is refused, and nothing is shown', async () => {
  await tab.open('/datasets');
  await heading('API key').waitFor();
  const sent = tab.requests.length;
  await enter('not a key');
  await page.getByRole('alert').getByText('That is not an API key.').waitFor();
  expect(tab.requests.length).toBe(sent);
  const [prefix = '', id = ''] = owners[0]!.key.split('_');
  await enter(`${prefix}_${id}_${'A'.repeat(43)}`);
  await expect.poll(() => page.getByRole('alert').textContent()).toContain('unauthorized');
  await heading('API key').waitFor();
  expect(await page.evaluate('sessionStorage.length')).toBe(0);
});

test('a key is entered once for the tab, and shows its own things only', async () => {
  await enter(owners[0]!.key);
  await heading('Datasets').waitFor();
  await page.getByRole('link', { name: 'ours.jsonl' }).waitFor();
  expect(await page.getByText('theirs.jsonl').count()).toBe(0);
  await page.reload();
  await page.getByRole('link', { name: 'ours.jsonl' }).waitFor();
  await tab.open(`/datasets/${owners[1]!.dataset}`);
  await page.getByRole('alert').first().waitFor();
  expect(await page.getByText('theirs.jsonl').count()).toBe(0);
});

test('a download has the same bytes as for the client, also in a browser that cannot write to the disk', async () => {
  const client = createClient({ baseUrl: stack.url, apiKey: owners[0]!.key });
  const { id } = await client.importAdapter({ folder: REFERENCE }, { base_model: 'tiny-llama', name: 'imported' });
  const parts: Uint8Array[] = [];
  for await (const chunk of (await client.streamAdapter(id)).chunks) parts.push(chunk);
  // As in Firefox.
  await page.addInitScript('delete window.showSaveFilePicker');
  await page.reload();
  await tab.open(`/adapters/${id}`);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Adapter (PEFT, tar)' }).click(),
  ]);
  expect(download.suggestedFilename()).toBe('imported.tar');
  expect((await readFile(await download.path())).equals(Buffer.concat(parts))).toBe(true);
});

test('another tab asks for a key again', async () => {
  const other = await page.context().newPage();
  await other.goto(`${stack.url}#/datasets/${owners[0]!.dataset}`);
  await other.getByRole('heading', { level: 1, name: 'API key' }).waitFor();
  expect(await other.getByText('ours.jsonl').count()).toBe(0);
  await other.close();
});

test('the key is only in the storage of the tab and in the header of requests', async () => {
  const secret = owners[0]!.key;
  // They may have a "_", too.
  const bits = secret.split('_').slice(2).join('_');
  expect(await page.evaluate('JSON.stringify({ ...sessionStorage })')).toContain(secret);
  expect(await page.evaluate('JSON.stringify({ ...localStorage })')).not.toContain('lsk_');
  expect(await page.content()).not.toContain('lsk_');
  expect(await page.context().cookies()).toEqual([]);
  expect(tab.requests.filter((address) => address.includes('lsk_'))).toEqual([]);
  expect(page.url()).not.toContain('lsk_');
  for (const name of await readdir(stack.logsDir)) {
    const log = await readFile(path.join(stack.logsDir, name), 'utf8');
    expect(log, name).not.toContain(secret);
    expect(log, name).not.toContain(bits);
  }
});

test('a key that is forgotten is gone, and another one shows its own things', async () => {
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await heading('API key').waitFor();
  expect(await page.evaluate('sessionStorage.getItem("lorasmith-key")')).toBe(null);
  await page.goBack();
  await heading('API key').waitFor();
  await enter(owners[1]!.key);
  await tab.open('/datasets');
  await page.getByRole('link', { name: 'theirs.jsonl' }).waitFor();
  expect(await page.getByText('ours.jsonl').count()).toBe(0);
});

test('what a key may not do is not offered', async () => {
  const offers = async () => {
    await tab.open('/jobs');
    await page.getByText('There are no jobs yet.').waitFor();
    const inMenu = await page.getByRole('navigation').getByRole('link').allTextContents();
    await tab.open(`/datasets/${owners[1]!.dataset}`);
    await page.getByText('Say 1.').first().waitFor();
    const onDataset = await page.getByRole('main').getByRole('button', { name: 'Delete' }).count();
    await tab.open('/models');
    await page.getByRole('link', { name: 'tiny-llama' }).waitFor();
    const pulls = await page.getByRole('button', { name: 'Pull', exact: true }).count();
    return { inMenu, onDataset, pulls };
  };
  const views = ['Jobs', 'Sweeps', 'New job', 'Datasets', 'Models', 'Adapters', 'Comparisons', 'Chat', 'Machines'];
  await page.getByRole('navigation').getByRole('link', { name: 'New job' }).waitFor();
  expect(await offers()).toEqual({ inMenu: views, onDataset: 1, pulls: 0 });
  const reader = await createKey(stack, 'read', `key_${owners[1]!.key.split('_')[1]}`);
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await heading('API key').waitFor();
  await enter(reader);
  const reading = views.filter((name) => name !== 'New job' && name !== 'Chat');
  expect(await offers()).toEqual({ inMenu: reading, onDataset: 0, pulls: 0 });
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await heading('API key').waitFor();
  await enter(owners[1]!.key);
  await page.getByRole('navigation').getByRole('link', { name: 'New job' }).waitFor();
});

test('after a key is revoked, the page asks for another', async () => {
  const id = owners[1]!.key.split('_')[1]!;
  await runKeys(stack, ['revoke', `key_${id}`]);
  await page.getByRole('navigation').getByRole('link', { name: 'Jobs' }).click();
  await page.getByText('The service no longer accepts the key of this tab.').waitFor();
  expect(await page.getByText('theirs.jsonl').count()).toBe(0);
});

test('nothing else went wrong', async () => {
  expect((await tab.faults()).filter((fault) => !REFUSED.test(fault))).toEqual([]);
});
