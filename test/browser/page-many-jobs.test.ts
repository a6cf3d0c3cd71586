import path from 'node:path';
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { JOB_SETTING_PATHS } from '../../packages/contracts/src/index.js';
import { OLDEST, RANKS, STOPPED, SWEEP, writeManyJobs } from './many-jobs.js';
import { expectFaults, heading, page, refusedWith, stack, tab, usePage } from './use-page.js';
import { TIMEOUT_MS } from './watched-page.js';

// The list of 500 jobs: found, sorted, counted and chosen among all of them, not only among those in sight.

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });
const eventually = <Value>(read: () => Value) => expect.poll(read, { timeout: TIMEOUT_MS });

usePage({ worker: false });
expectFaults(refusedWith(404, 409));

const REFERENCE = path.join(import.meta.dirname, '../fixtures/reference/llama-tied/adapter_init');

beforeAll(() => writeManyJobs(stack.redisUrl), 3 * TIMEOUT_MS);

const names = () => page.locator('.data-table tbody th a:not(.tag)').allTextContents();
const total = () => page.locator('.list-total [role=status]').textContent();
const find = (text: string) => page.getByLabel('Find').fill(text);

test('the oldest job is found by its name, and the number of all is said', async () => {
  await tab.open('/jobs');
  await eventually(total).toBe('498 jobs, a sweep counted as one');
  expect(await names()).toHaveLength(25);
  await find('OLDEST of');
  await eventually(names).toEqual([OLDEST]);
  await eventually(total).toBe('1 job matches, a sweep counted as one');
  await find('no such job');
  await page.getByText('No job matches.').waitFor();
  await find('');
  await eventually(names).toHaveLength(25);
});

test('all jobs are sorted, by a setting that is a column, too', async () => {
  await tab.open('/jobs?flat=yes');
  await eventually(total).toBe('500 jobs');
  await page.getByRole('button', { name: 'Job', exact: true }).click();
  await eventually(async () => (await names())[3]).toBe('run 1');
  await page.getByRole('button', { name: /^Job/ }).click();
  await eventually(async () => (await names())[0]).toBe(OLDEST);
  await page.getByText('Settings as columns').click();
  await page.getByLabel('Rank (r)', { exact: true }).check();
  await page.getByRole('button', { name: 'Rank (r)', exact: true }).click();
  const ranks = () => page.locator('td[data-label="Rank (r)"]').allTextContents();
  await eventually(async () => (await ranks()).slice(0, 11)).toEqual([...Array(10).fill('1'), '2']);
});

test.each([1440, 390])('no view is wider than a window of %i pixels', async (width) => {
  const { client } = stack;
  const columns = JOB_SETTING_PATHS.slice(0, 8).join();
  const [failed] = (await client.listJobs({ status: 'failed' })).data;
  const compared = (await client.listJobs({ status: 'succeeded', limit: 6 })).data.map(({ id }) => id);
  const [sweep] = (await client.listSweeps()).data;
  const routes = [
    ...['/jobs', `/jobs?open=${sweep!.id}`, `/jobs?flat=yes&settings=open&columns=${columns}`, `/jobs/${failed!.id}`],
    ...['/sweeps', `/sweeps/${sweep!.id}`, `/compare?jobs=${compared.join()}`, '/new-job', '/machines'],
  ];
  const size = page.viewportSize()!;
  onTestFinished(() => page.setViewportSize(size));
  await page.setViewportSize({ width, height: 900 });
  for (const route of routes) {
    await tab.open(route);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await eventually(() => page.locator('.loading').count()).toBe(0);
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth'), route).toBeLessThanOrEqual(0);
  }
});

test('whoever goes back to the list finds it as it was', async () => {
  await tab.open('/jobs?flat=yes&q=run&sort=Job');
  await eventually(async () => (await names())[0]).toBe('run 1');
  await page.getByRole('link', { name: 'Next jobs' }).click();
  await eventually(async () => (await names())[0]).toBe('run 26');
  const address = page.url();
  const link = page.getByRole('link', { name: 'run 50', exact: true });
  await link.scrollIntoViewIfNeeded();
  const scrolled = () => page.evaluate('window.scrollY') as Promise<number>;
  const place = await scrolled();
  expect(place).toBeGreaterThan(0);
  // The place is noted once the page has come to rest.
  await eventually(() => page.evaluate('history.state?.scrollY')).toBe(place);
  await link.click();
  await heading('run 50').waitFor();
  await page.goBack();
  await eventually(async () => (await names())[0]).toBe('run 26');
  expect(page.url()).toBe(address);
  expect(await page.getByLabel('Find').inputValue()).toBe('run');
  await eventually(scrolled).toBe(place);
});

test('the variants of a sweep are under it', async () => {
  await tab.open('/jobs');
  const row = page.getByRole('row', { name: /Variants of ranks/ });
  await row.waitFor();
  expect(await names()).not.toContain(`${SWEEP} r=8`);
  await row.getByRole('button', { name: 'Variants of ranks' }).click();
  const listed = async () => (await names()).slice(5, 9);
  await eventually(listed).toEqual([SWEEP, ...RANKS.toReversed().map((r) => `${SWEEP} r=${r}`)]);
  await page.reload();
  await eventually(listed).toEqual([SWEEP, ...RANKS.toReversed().map((r) => `${SWEEP} r=${r}`)]);
  await find('r=8');
  await eventually(names).toEqual([SWEEP, `${SWEEP} r=8`]);
  await page.getByRole('row', { name: `${SWEEP} r=8 stopped at a rung` }).waitFor();
  await page.getByRole('button', { name: 'Variants of ranks' }).click();
  await eventually(names).toEqual([SWEEP]);
  const [stopped] = (await stack.client.listJobs({ name: `${SWEEP} r=${STOPPED}` })).data;
  await tab.open(`/jobs/${stopped!.id}`);
  await page.locator('.view-title').getByText('stopped at a rung').waitFor();
});

test('several jobs are chosen on several pages, compared and deleted; one that refuses says why', async () => {
  const dataset = (await stack.client.uploadDataset({ text: '{"text":"a"}\n{"text":"b"}\n' })).id;
  const waiting = await stack.client.createJob({ base_model: 'tiny-llama', dataset, name: 'run waiting' });
  await tab.open('/jobs?flat=yes&q=run');
  await page.getByLabel('Choose run waiting').check();
  await page.getByLabel('Choose run 496').check();
  await page.getByRole('link', { name: 'Older jobs' }).click();
  await page.getByLabel('Choose run 470').check();
  await page.getByRole('link', { name: 'Compare 3 jobs' }).click();
  await heading('Compare jobs').waitFor();
  await page.goBack();
  await page.getByText('3 jobs chosen').waitFor();
  await page.getByRole('button', { name: 'Delete them' }).click();
  await page.getByRole('button', { name: 'Delete 3 jobs' }).click();
  await page.getByRole('alert').getByText('run waiting: The job has not ended. Cancel it first.').waitFor();
  await page.getByText('1 job chosen').waitFor();
  await eventually(total).toBe('495 jobs match');
  await page.getByRole('button', { name: 'Cancel them' }).click();
  await page.getByRole('button', { name: 'Cancel 1 job' }).click();
  await eventually(async () => (await stack.client.getJob(waiting.id)).status).toBe('cancelled');
  await page.getByText('1 job chosen').waitFor({ state: 'detached' });
  expect((await stack.client.listJobs({ name: 'run 470' })).total).toBe(0);
});

test('a job, a dataset and an adapter get a name, tags and a note, by which they are found', async () => {
  const { client } = stack;
  const dataset = (await client.uploadDataset({ text: '{"text":"c"}\n{"text":"d"}\n' }, { name: 'letters' })).id;
  const adapter = await client.importAdapter({ folder: REFERENCE }, { base_model: 'tiny-llama', name: 'imported' });
  const [job] = (await client.listJobs({ name: OLDEST })).data;
  for (const [kind, id, before] of [
    ['jobs', job!.id, OLDEST],
    ['datasets', dataset, 'letters'],
    ['adapters', adapter.id, 'imported'],
  ] as const) {
    await tab.open(`/${kind}/${id}`);
    await heading(before).waitFor();
    await page.getByRole('button', { name: 'Edit name, tags and note' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name').fill(`my ${kind}`);
    await dialog.getByLabel('Tags').fill('baseline,  second try, baseline');
    await dialog.getByLabel('Note').fill('Two\nlines');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await heading(`my ${kind}`).waitFor();
    await expect.poll(() => page.locator('.note').textContent()).toBe('Two\nlines');
    await page.getByRole('link', { name: 'tag second try' }).click();
    await eventually(names).toEqual([`my ${kind}`]);
    await find(id);
    await eventually(names).toEqual([`my ${kind}`]);
    await page.getByLabel('Tag', { exact: true }).fill('second');
    await page.getByLabel('Tag', { exact: true }).press('Enter');
    await page.getByText(`No ${kind.slice(0, -1)} matches.`).waitFor();
  }
});

test('all datasets are sorted by a press on a title, and all adapters', async () => {
  // More than a page has.
  for (let number = 0; number < 52; number++) {
    const rows = Array.from({ length: 1 + number }, (_, row) => JSON.stringify({ text: `${number} ${row}` }));
    await stack.client.uploadDataset({ text: rows.join('\n') }, { name: `rows ${number}` });
  }
  await tab.open('/datasets?q=rows');
  await eventually(total).toBe('52 datasets match');
  await page.getByRole('button', { name: 'Dataset', exact: true }).click();
  await eventually(async () => (await names()).slice(0, 3)).toEqual(['rows 0', 'rows 1', 'rows 2']);
  await page.getByRole('link', { name: 'Next datasets' }).click();
  await eventually(names).toEqual(['rows 50', 'rows 51']);
  await page.getByRole('button', { name: 'Rows', exact: true }).click();
  await page.getByRole('button', { name: /^Rows/ }).click();
  await eventually(async () => (await names()).slice(0, 2)).toEqual(['rows 51', 'rows 50']);
  expect(await page.getByRole('columnheader', { name: /^Rows/ }).getAttribute('aria-sort')).toBe('descending');
  await page.reload();
  await eventually(async () => (await names())[0]).toBe('rows 51');
  await page.getByRole('button', { name: /^Rows/ }).click();
  expect(new URL(page.url()).hash).not.toContain('sort');

  for (const name of ['b', 'C', 'a']) {
    await stack.client.importAdapter({ folder: REFERENCE }, { base_model: 'tiny-llama', name: `sorted ${name}` });
  }
  await tab.open('/adapters?q=sorted&sort=Adapter');
  await eventually(names).toEqual(['sorted a', 'sorted b', 'sorted C']);
  await page.getByRole('button', { name: /^Adapter/ }).click();
  await eventually(names).toEqual(['sorted C', 'sorted b', 'sorted a']);
});
