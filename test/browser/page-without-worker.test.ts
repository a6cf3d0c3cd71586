import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openWorkerStarts } from '../../packages/queue/src/index.js';
import { createKey } from '../api-keys.js';
import { filesOf, type HubServer, hubRepo, startHubServer } from '../hub-server.js';
import { browser, expectFaults, page, refusedWith, stack, tab, unfold, usePage } from './use-page.js';
import { openPage } from './watched-page.js';

// What the page does without a worker: refused uploads, the form that starts a job, pulls of models, a chat that nobody answers.

const ROWS = Array.from({ length: 12 }, (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, completion: `${i}` })}\n`);
const REFERENCE = path.join(import.meta.dirname, '../fixtures/reference/llama-tied/adapter_init');
/** The message of the console for a refused upload, dry run or pull, of a job that does not exist, and of a chat that nobody answers. */
/** The largest dataset. */
const MAX_BYTES = 1_000_000;
const FINE = 'Checked: it can be started.';

let hub: HubServer;

beforeAll(async () => {
  hub = await startHubServer();
});
usePage({
  worker: false,
  env: () => ({
    ...{ HF_ENDPOINT: hub.url, HF_TOKEN: '', GENERATION_WAIT_MS: '100' },
    DATASET_MAX_BYTES: String(MAX_BYTES),
  }),
});
afterAll(() => hub?.stop());
expectFaults(refusedWith(400, 404, 413, 422, 503));

test('where there is nothing, the example data lead to a job in two presses', async () => {
  await tab.open('/jobs');
  await page.getByText('There are no jobs yet.').waitFor();
  await page.getByRole('button', { name: 'Use the example data' }).click();
  await page.getByRole('heading', { level: 1, name: 'New job' }).waitFor();
  await page.getByText(FINE).first().waitFor();
  await page.getByRole('button', { name: 'Start the job' }).click();
  await page.waitForURL(/#\/jobs\/job_/);
  const [job] = (await stack.client.listJobs()).data;
  expect(job).toMatchObject({ name: 'example-dates', base_model: 'tiny-llama', validation: { split: 0.1 } });
  expect(job!.samples?.prompts).toHaveLength(3);
  await stack.client.cancelJob(job!.id);
  await tab.open('/adapters');
  await page.getByText('There are no adapters yet.').waitFor();
  await page.getByRole('button', { name: 'Use the example data' }).waitFor();
});

test('a file above the limit is refused with the limit while most of it is not sent', async () => {
  const file = path.join(stack.folder, 'large.jsonl');
  await writeFile(file, '');
  await truncate(file, 300 * MAX_BYTES);
  await tab.open('/datasets');
  for (let i = 0; i < 3; i++) {
    await page.getByLabel('File').setInputFiles(file);
    await page.getByRole('alert').getByText(`is larger than the limit of ${MAX_BYTES} bytes.`).waitFor();
    await page.reload();
  }
});

describe('the form that starts a job', () => {
  let dataset: string;

  beforeAll(async () => {
    ({ id: dataset } = await stack.client.uploadDataset({ text: ROWS.join('') }, { name: 'sayings' }));
  });

  const field = (label: string) => page.getByLabel(label, { exact: true });
  const sees = (text: string) => page.getByText(text).first().waitFor();
  const requestInPage = async () =>
    JSON.parse((await page.getByRole('region', { name: 'the request as JSON' }).textContent()) ?? '');
  const dryRuns = () => tab.requests.filter((url) => url.includes('dry_run')).length;

  test('what is chosen is checked at once: the report is beside the form, with the request as command and JSON', async () => {
    const before = dryRuns();
    await tab.open('/new-job');
    await sees('the base model or the dataset is missing');
    expect(await page.getByRole('button', { name: 'Start the job' }).isDisabled()).toBe(true);
    expect(dryRuns()).toBe(before);
    // The only one is chosen by itself.
    await expect.poll(() => field('Base model (required)').inputValue()).toBe('tiny-llama');
    await field('Dataset (required)').selectOption(dataset);
    await sees(FINE);
    await sees('Report before training');
    expect(await requestInPage()).toEqual({ base_model: 'tiny-llama', dataset, validation: { split: 0.05 } });
    const command = await page.getByRole('region', { name: 'the command for curl' }).textContent();
    expect(command).toContain(`${stack.url}jobs`);
    expect(command).not.toContain('authorization');
  });

  test('tags are typed with commas between them', async () => {
    await field('Tags').fill('dates, 2026,');
    await sees(FINE);
    expect(await requestInPage()).toMatchObject({ tags: ['dates', '2026'] });
    await field('Tags').fill('');
    await expect.poll(requestInPage).not.toHaveProperty('tags');
  });

  test('typing asks only when it pauses, and the answer is of what was typed last', async () => {
    expect(await field('Learning rate').isVisible()).toBe(false);
    await field('Find a setting').fill('rate');
    await field('Learning rate').waitFor();
    expect(await page.locator('.field', { hasText: 'Rank (r)' }).count()).toBe(0);
    // The page's clock stands while the digits are typed: none of them is followed by a pause, however busy the machine is.
    await page.clock.install();
    await page.clock.pauseAt(Date.now() + 1000);
    const before = dryRuns();
    await field('Learning rate').pressSequentially('0.00250000');
    await expect.poll(async () => (await requestInPage()).training?.learning_rate).toBe(0.0025);
    expect(dryRuns()).toBe(before);
    await page.clock.resume();
    await expect.poll(dryRuns).toBe(before + 1);
    await sees(FINE);
    expect(dryRuns()).toBe(before + 1);
  });

  test('a fault is at its field, and unfolds it', async () => {
    await page.reload();
    await sees(FINE);
    await unfold('Adapter');
    await field('Rank (r)').fill('0');
    await sees('something is wrong with 1 of the fields');
    expect(await field('Rank (r)').getAttribute('aria-invalid')).toBe('true');
    const described = (await field('Rank (r)').getAttribute('aria-describedby'))!.split(' ').at(-1)!;
    expect(await page.locator(`[id="${described}"]`).textContent()).toBe('lora.r must be >= 1.');
    await field('Rank (r)').fill('4');
    await sees(FINE);

    expect(await field('Seed').isVisible()).toBe(false);
    await tab.open('/new-job?training.seed=-1&base_model=tiny-llama&dataset=ds_x');
    await sees('something is wrong with 2 of the fields');
    await field('Seed').waitFor();
    await sees('Training: Seed');
  });

  test('a reload keeps the form; another address begins another one, and a job is copied', async () => {
    await tab.open(`/new-job?dataset=${dataset}&base_model=tiny-llama`);
    await sees(FINE);
    expect(await field('Seed').inputValue()).toBe('');
    await page.reload();
    await unfold('Adapter');
    await field('Rank (r)').fill('2');
    await field('Layers to adapt').fill('q_proj, k_proj');
    await page.reload();
    await sees(FINE);
    const request = await requestInPage();
    expect(request).toEqual({
      base_model: 'tiny-llama',
      dataset,
      validation: { split: 0.05 },
      lora: { r: 2, target_modules: ['q_proj', 'k_proj'] },
    });

    await page.getByRole('button', { name: 'Start the job' }).click();
    await page.waitForURL(/#\/jobs\/job_/);
    const [job] = (await stack.client.listJobs()).data;
    expect(page.url()).toBe(`${stack.url}#/jobs/${job?.id}`);
    expect(job).toMatchObject({ base_model: 'tiny-llama', dataset, lora: request.lora });
    await page.getByRole('link', { name: 'Like this' }).click();
    await sees(FINE);
    expect(await requestInPage()).toEqual(request);
    await page.getByRole('button', { name: 'Start the job' }).click();
    await page.waitForURL(/#\/jobs\/job_/);

    // What began a form begins another one once that is sent, or emptied.
    await tab.open(`/jobs/${job?.id}`);
    await page.getByRole('link', { name: 'Like this' }).click();
    await sees(FINE);
    expect(await requestInPage()).toEqual(request);
    await page.getByRole('button', { name: 'Empty the form' }).click();
    await sees('Nothing is checked yet');
    await tab.open(`/jobs/${job?.id}`);
    await page.getByRole('link', { name: 'Like this' }).click();
    await sees(FINE);
    expect(await requestInPage()).toEqual(request);
    await tab.open('/new-job?from=job_000000000000000000000000');
    await sees('Could not read the earlier job');
  });
});

describe('pulling a model', () => {
  beforeAll(async () => {
    const model = hubRepo(await filesOf(path.join(stack.modelsDir, 'tiny-llama')));
    hub.repos.set('org/tiny-copy', model).set('org/other', model);
    hub.repos.set('org/gated', hubRepo({}, { token: 'hf_token', gated: true }));
  });

  async function pull(repo: string): Promise<void> {
    await page.getByLabel('Repository').fill(repo);
    await page.getByRole('button', { name: 'Pull', exact: true }).click();
  }

  test('the progress of a pull is shown, and then it is in the list', async () => {
    hub.faults.holdAfterBytes = 10_000;
    await tab.open('/models');
    await pull('org/tiny-copy');
    await page.getByRole('progressbar', { name: 'Progress of tiny-copy' }).waitFor();
    hub.faults.holdAfterBytes = null;
    hub.release();
    await page.getByRole('link', { name: 'tiny-copy' }).click();
    await page.getByText('org/tiny-copy at main').waitFor();
  });

  test('a pull is cancelled', async () => {
    hub.faults.holdAfterBytes = 10_000;
    await tab.open('/models');
    await pull('org/other');
    await page.getByRole('button', { name: 'Cancel the pull of other' }).click();
    await page.getByRole('row', { name: /^other .*cancelled/ }).waitFor();
    hub.faults.holdAfterBytes = null;
    hub.release();
    expect((await stack.client.models()).map(({ name }) => name)).not.toContain('other');
  });

  test('a gated model and a wrong name are explained', async () => {
    await pull('org/gated');
    await page.getByText(/^org\/gated is gated: accept its terms at .*, then set HF_TOKEN/).waitFor();
    await pull('only-a-name');
    await page.getByRole('alert').getByText('The model was not pulled').waitFor();
  });
});

test('a chat that nobody answers says so, and can be asked again', async () => {
  const about = { base_model: 'tiny-llama', name: 'imported' };
  const { id } = await stack.client.importAdapter({ folder: REFERENCE }, about);
  await tab.open(`/chat?model=${id}`);
  await page.getByLabel('Your message').fill('Is anybody there?');
  await page.getByLabel('Your message').press('Enter');
  const alerts = page.getByRole('alert').filter({ hasText: 'No complete answer' });
  await expect.poll(() => alerts.count()).toBe(2);
  const asked = () => tab.requests.filter((address) => address.endsWith('/v1/chat/completions')).length;
  const before = asked();
  await alerts.first().getByRole('button', { name: 'Try again' }).click();
  await expect.poll(asked).toBeGreaterThan(before);
  await expect.poll(() => alerts.count()).toBe(2);
  await page.reload();
  await page.getByText('Is anybody there?').waitFor();
  await page.getByRole('button', { name: 'Ask again: imported' }).waitFor();

  // An answer stays that of the model that gave it, and what is typed stays, without a moment in which the chat is not in sight.
  const turn = await page.getByRole('region', { name: 'Turn 1' }).elementHandle();
  await page.getByLabel('Your message').fill('Not sent yet');
  await page.getByLabel('Model', { exact: true }).selectOption('tiny-llama');
  const speakers = page.getByRole('region', { name: 'Turn 1' }).locator('.chat-answer .chat-speaker');
  await expect.poll(() => speakers.count()).toBe(1);
  expect(await speakers.allTextContents()).toEqual(['imported']);
  expect(await page.getByLabel('Your message').inputValue()).toBe('Not sent yet');
  expect(await turn?.evaluate((element) => element.isConnected)).toBe(true);
});

test('a waiting job says that no worker runs, then that one measures its machine', async () => {
  const dataset = (await stack.client.uploadDataset({ blob: new Blob(ROWS) }, { name: 'waiting.jsonl' })).id;
  const { id } = await stack.client.createJob({ base_model: 'tiny-llama', dataset, name: 'first' });
  await tab.open(`/jobs/${id}`);
  await page.getByText('Waits: no worker runs.').waitFor();
  const redis = new Redis(stack.redisUrl);
  const starts = openWorkerStarts({ redis, prefix: 'lorasmith:' });
  await starts.announce('w', 'measuring');
  await page.getByText('Waits: the worker measures its machine, about 30 s at a first start.').waitFor();
  // In the list the next job says it.
  await starts.announce('w', 'measuring');
  await tab.open('/jobs');
  await page.getByRole('row', { name: /Next in the queue.*Waits: the worker measures its machine/ }).waitFor();
  await redis.quit();
  await stack.client.cancelJob(id);
});

test('a compared job that was deleted leaves the others, and can be removed', async () => {
  const dataset = (await stack.client.uploadDataset({ blob: new Blob(ROWS) }, { name: 'compared.jsonl' })).id;
  const create = (name: string) => stack.client.createJob({ base_model: 'tiny-llama', dataset, name });
  const [left, deleted] = [await create('left'), await create('deleted')];
  await stack.client.cancelJob(deleted.id);
  await stack.client.deleteJob(deleted.id);
  await tab.open(`/compare?jobs=${left.id},${deleted.id}`);
  await page.getByRole('link', { name: `left (${left.id.slice(-4)})` }).waitFor();
  await page.getByRole('button', { name: `Remove ${deleted.id}` }).click();
  await page.waitForURL(`**/#/compare?jobs=${left.id}`);
  expect(await page.getByRole('alert').count()).toBe(0);
  await stack.client.cancelJob(left.id);
});

test('a dialog that is closed gives the focus back to the button that opened it', async () => {
  const { id } = await stack.client.uploadDataset({ blob: new Blob(ROWS) }, { name: 'asked.jsonl' });
  await tab.open(`/datasets/${id}`);
  const opener = page.getByRole('button', { name: 'Delete', exact: true });
  await opener.press('Enter');
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Close' }).press('Enter');
  await expect.poll(() => dialog.count()).toBe(0);
  expect(await opener.evaluate((element) => element === element.ownerDocument.activeElement)).toBe(true);
});

// The last one: from the first key on, the service asks for it.
test('with a key, the command of the form names the variable of the key, and neither form nor address has the key', async () => {
  const key = await createKey(stack, 'train');
  const own = await openPage(browser, stack.url);
  await own.open('/new-job');
  await own.page.getByLabel('API key').fill(key);
  await own.page.getByRole('button', { name: 'Use this key' }).click();
  const command = own.page.getByRole('region', { name: 'the command for curl' });
  expect(await command.textContent()).toContain('-H "authorization: Bearer $LORASMITH_API_KEY"');
  await own.page.getByLabel('Name', { exact: true }).fill('kept');
  const stored = await own.page.evaluate('sessionStorage.getItem("lorasmith-new-job")');
  expect(stored).toContain('kept');
  expect(`${stored}${own.page.url()}${await own.page.locator('#app').textContent()}`).not.toContain(key);
  await own.close();
});
