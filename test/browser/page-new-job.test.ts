import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createKey } from '../api-keys.js';
import { type PageStack, startPageStack } from './page-stack.js';
import { launchBrowser, openPage, type WatchedPage } from './watched-page.js';

// The form that starts a job: fields and faults, the report while typing, the request to copy, and where it begins.

const ROWS = Array.from({ length: 12 }, (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, completion: `${i}` })}\n`);
/** What the console says of a refused dry run, and of a job that does not exist. */
const REFUSED = /^console: Failed to load resource: the server responded with a status of (400|404|422) /;
const FINE = 'Checked: it can be started.';

let stack: PageStack;
let browser: Browser;
let tab: WatchedPage;
let page: Page;
let dataset: string;

beforeAll(async () => {
  [stack, browser] = await Promise.all([startPageStack({ worker: false }), launchBrowser()]);
  ({ id: dataset } = await stack.client.uploadDataset({ text: ROWS.join('') }, { name: 'sayings' }));
  tab = await openPage(browser, stack.url);
  page = tab.page;
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await stack?.stop();
}, 90_000);

const field = (label: string) => page.getByLabel(label, { exact: true });
const sees = (text: string) => page.getByText(text).first().waitFor();
const requestInPage = async () =>
  JSON.parse((await page.getByRole('region', { name: 'the request as JSON' }).textContent()) ?? '');
const dryRuns = () => tab.requests.filter((url) => url.includes('dry_run')).length;

test('what is chosen is checked at once: the report is beside the form, with the request as command and JSON', async () => {
  await tab.open('/new-job');
  await sees('the base model or the dataset is missing');
  expect(await page.getByRole('button', { name: 'Start the job' }).isDisabled()).toBe(true);
  expect(dryRuns()).toBe(0);
  await field('Base model (required)').selectOption('tiny-llama');
  await field('Dataset (required)').selectOption(dataset);
  await sees(FINE);
  await sees('Report before training');
  expect(await requestInPage()).toEqual({ base_model: 'tiny-llama', dataset });
  const command = await page.getByRole('region', { name: 'the command for curl' }).textContent();
  expect(command).toContain(`${stack.url}jobs`);
  expect(command).not.toContain('authorization');
});

test('typing asks only when it pauses, and the answer is of what was typed last', async () => {
  const before = dryRuns();
  await field('Learning rate').pressSequentially('0.00250000');
  await sees('Checking …');
  await sees(FINE);
  expect(dryRuns() - before).toBeLessThan(5);
  expect(await requestInPage()).toMatchObject({ training: { learning_rate: 0.0025 } });
});

test('a fault is at its field, and unfolds it', async () => {
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
  await sees('Advanced settings: Seed');
});

test('a reload keeps the form; another address begins another one, and a job is copied', async () => {
  await tab.open(`/new-job?dataset=${dataset}&base_model=tiny-llama`);
  await sees(FINE);
  expect(await field('Seed').inputValue()).toBe('');
  await field('Rank (r)').fill('2');
  await field('Target modules').fill('q_proj, k_proj');
  await page.reload();
  await sees(FINE);
  const request = await requestInPage();
  expect(request).toEqual({ base_model: 'tiny-llama', dataset, lora: { r: 2, target_modules: ['q_proj', 'k_proj'] } });

  await page.getByRole('button', { name: 'Start the job' }).click();
  await page.waitForURL(/#\/jobs\/job_/);
  const [job] = (await stack.client.listJobs()).data;
  expect(page.url()).toBe(`${stack.url}#/jobs/${job?.id}`);
  expect(job).toMatchObject({ base_model: 'tiny-llama', dataset, lora: request.lora });
  await page.getByRole('link', { name: 'New job like this' }).click();
  await sees(FINE);
  expect(await requestInPage()).toEqual(request);
  await tab.open('/new-job?from=job_000000000000000000000000');
  await sees('Could not read the earlier job');
  expect((await tab.faults()).filter((fault) => !REFUSED.test(fault))).toEqual([]);
});

test('with a key, the command names the variable of the key, and neither form nor address has the key', async () => {
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
