import { beforeAll, expect, test, vi } from 'vitest';
import { browser, expectFaults, figure, heading, page, refusedWith, stack, tab, usePage } from './use-page.js';
import { openPage, TIMEOUT_MS } from './watched-page.js';

// How the page says what came out of a job: a failure by rows, an adapter that is worse than its base model, a reward, a variant that was stopped.

const REQUEST = { base_model: 'tiny-llama' };
const LONG = Array.from({ length: 60 }, (_, i) => ({
  prompt: `Say ${i}.`,
  completion: ` It is ${i}.`.repeat(1 + (i % 10)),
}));
const PROMPTS = Array.from({ length: 8 }, (_, i) => ({ prompt: `count to ${i}`, reference: 'a' }));

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });

// A job on more than a kilobyte of rows is planned by its worker, so that it fails there.
usePage({ env: () => ({ PREFLIGHT_BUDGET_MS: '1' }) });
expectFaults(refusedWith(400, 404, 422));

let long: string;
let prompts: string;
/** Rows of which each teaches the opposite of the others. */
let one: string;
let other: string;
beforeAll(async () => {
  const upload = async (rows: readonly object[], name: string) => {
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    return (await stack.client.uploadDataset({ text }, { name })).id;
  };
  long = await upload(LONG, 'long');
  prompts = await upload(PROMPTS, 'prompts');
  const answers = (answer: string) =>
    Array.from({ length: 8 }, (_, i) => ({ prompt: `Say ${i}.`, completion: answer }));
  one = await upload(answers('aaaaaaaaaaaa'), 'one');
  other = await upload(answers('zzzzzzzzzzzz'), 'other');
});

const ended = async (id: string) => await stack.client.waitForJob(id).catch(() => stack.client.getJob(id));
const state = () => page.locator('.view-title');
const figures = () => page.locator('.figures dt').allTextContents();

test('rows that are too long are one fault, and the main button begins a job that takes them', async () => {
  const { id } = await stack.client.createJob({ ...REQUEST, dataset: long, training: { max_seq_length: 32 } });
  const { error } = await ended(id);
  expect(error).toMatchObject({ code: 'row_too_long' });
  const tokens = error!.details.map((fault) => fault.tokens!);
  const longest = Math.max(...tokens);
  const longestLine = error!.details.find((fault) => fault.tokens === longest)!.line;
  await tab.open(`/jobs/${id}`);
  await state().getByText('failed').waitFor();
  const notice = page.locator('.notice-error');
  expect(await notice.locator('.notice-title').textContent()).toContain(
    `the longest row, line ${longestLine}, has ${longest} tokens`,
  );
  const [first, second, third] = error!.details.map(({ line }) => line);
  expect(await notice.locator('li').allTextContents()).toEqual([
    `lines ${first}, ${second}, ${third} and ${tokens.length - 3} more: The row has ${Math.min(...tokens)} to ${longest} tokens; the limit is 32. Raise training.max_seq_length, or set training.on_overflow to drop, truncate or split.`,
  ]);
  expect(await page.getByRole('button', { name: 'Resume' }).count()).toBe(0);
  expect(await page.locator('main .primary').allTextContents()).toEqual([
    `Like this, with rows of up to ${longest.toLocaleString('en-US')} tokens`,
  ]);
  await page.locator('main .primary').click();
  await heading('New job').waitFor();
  await page.getByText('Checked: it can be started.').waitFor();
  expect(await page.getByLabel('Longest row in tokens').inputValue()).toBe(String(longest));
});

test('an adapter that is worse than its base model says so, where it is opened and in the list', async () => {
  const { id } = await stack.client.createJob({
    ...REQUEST,
    dataset: one,
    name: 'too fast',
    validation: { dataset: other },
    training: { max_steps: 30, batch_size: 4, learning_rate: 0.5, eval_every_steps: 4 },
  });
  expect(await ended(id)).toMatchObject({ status: 'succeeded' });
  const { data } = await stack.client.listEvents(id);
  const losses = data.flatMap((event) => (event.type === 'evaluation-finished' ? [event.data.loss] : []));
  expect(losses.at(-1)).toBeGreaterThan(1.02 * losses[0]!);
  await tab.open(`/jobs/${id}`);
  await state().getByText('worse than its base model').waitFor();
  const notice = page.locator('.notice-warning', { hasText: 'The held-out loss rose from' });
  await notice.getByRole('link', { name: 'Like this, with a learning rate of 0.1' }).waitFor();
  await tab.open('/jobs');
  await page.getByRole('row', { name: /^too fast succeeded .* worse / }).waitFor();
});

test('a job on rewards leads with its reward', async () => {
  const { id } = await stack.client.createJob({
    ...REQUEST,
    dataset: prompts,
    name: 'rewarded',
    validation: { split: 0.25 },
    objective: {
      kind: 'group-relative',
      grader: { type: 'string_check', reference: '{{item.reference}}', operation: 'like' },
      group_size: 4,
      max_completion_tokens: 5,
    },
    training: { max_steps: 3, batch_size: 2, gradient_accumulation_steps: 1 },
  });
  expect(await ended(id)).toMatchObject({ status: 'succeeded' });
  await tab.open(`/jobs/${id}`);
  await figure('Reward')
    .getByText(/^held-out rows: /)
    .waitFor({ state: 'attached' });
  await expect.poll(async () => (await figures())[0]).toBe('held-out reward');
  expect((await figures()).join()).not.toContain('loss');
  expect(await page.locator('.job-charts > figure').first().getByRole('heading').textContent()).toBe('Reward');
  await tab.open('/jobs');
  await page.getByRole('row', { name: /^rewarded succeeded .* reward / }).waitFor();
});

test('a variant that a rung has stopped is not called cancelled, and a sweep has the name of its dataset', async () => {
  const sweep = await stack.client.createSweep({
    job: { ...REQUEST, dataset: long, validation: { split: 0.25 }, training: { max_steps: 8, batch_size: 4 } },
    space: { 'lora.r': { values: [2, 4] } },
    halving: { first_steps: 2 },
  });
  const { rungs, variants } = await stack.client.waitForSweep(sweep.id);
  const stopped = variants.find(({ variant }) => rungs[0]!.stopped.includes(variant))!;
  await tab.open(`/sweeps/${sweep.id}`);
  await page.locator('.subtitle').getByRole('link', { name: 'long', exact: true }).waitFor();
  const table = page.getByRole('table', { name: /^Variants, / });
  await table.getByRole('row', { name: new RegExp(`^#${stopped.variant} .* stopped at a rung`) }).waitFor();
  expect(await table.getByText('cancelled').count()).toBe(0);
  await tab.open(`/jobs/${stopped.job}`);
  await state().getByText('stopped at a rung').waitFor();
});

test('a legend has the last values while nothing points at the chart', async () => {
  const [job] = (await stack.client.listJobs()).data.filter(({ name }) => name === 'too fast');
  await tab.open(`/jobs/${job!.id}`);
  const values = () => figure('Loss').locator('.u-legend .u-value').allTextContents();
  await expect.poll(async () => (await values())[0]).toBe('30');
  for (const value of await values()) expect(value).toMatch(/^[\d.,e-]+$/);
});

test('the browser shows the end of a job, once it was asked to by a press', async () => {
  const { id } = await stack.client.createJob({
    ...REQUEST,
    dataset: one,
    name: 'watched',
    training: { max_steps: 1_000_000 },
  });
  const own = await openPage(browser, stack.url, { permissions: ['notifications'] });
  await own.page.addInitScript(`
    window.shown = [];
    const Shown = window.Notification;
    window.Notification = class extends Shown {
      constructor(title, options) {
        super(title, options);
        window.shown.push(title);
      }
    };
    window.asked = 0;
    window.Notification.requestPermission = async () => {
      window.asked += 1;
      return 'granted';
    };
  `);
  await own.open(`/jobs/${id}`);
  const button = own.page.getByRole('button', { name: 'Notify me at its end' });
  await button.waitFor();
  expect(await own.page.evaluate('asked')).toBe(0);
  await button.click();
  await expect.poll(() => button.getAttribute('aria-pressed')).toBe('true');
  // Another view, and a reload, change nothing.
  await own.open('/datasets');
  await own.page.reload();
  await own.page.getByRole('heading', { level: 1, name: 'Datasets' }).waitFor();
  await stack.client.cancelJob(id);
  await expect.poll(() => own.page.evaluate('shown'), { timeout: TIMEOUT_MS }).toEqual(['watched is cancelled']);
  expect(await own.faults()).toEqual([]);
  await own.close();
});

test('answers to held-out rows are compared, beside the loss', async () => {
  const { id } = await stack.client.createJob({
    ...REQUEST,
    dataset: one,
    name: 'compared',
    validation: { split: 0.5 },
    training: { max_steps: 4, batch_size: 4 },
    samples: { held_out_rows: 3, max_tokens: 8 },
  });
  const { adapter } = await ended(id);
  await tab.open(`/jobs/${id}`);
  await state().getByText('succeeded').waitFor();
  for (const line of ['exact match', 'F1', 'ROUGE-L'])
    await figure('Answers to held-out rows')
      .getByText(new RegExp(`^${line}: from \\S+ at step 0 to \\S+ at step 4`))
      .waitFor({ state: 'attached' });
  expect(await figures()).toContain('exact match');
  const scores = page.getByRole('table', { name: 'Answers to held-out rows' });
  expect(await scores.locator('tbody tr').count()).toBe(2);
  const { origin } = await stack.client.manifest(adapter!);
  expect(origin).toMatchObject({
    result: {
      samples: [
        { step: 0, scores: { rows: 3 } },
        { step: 4, scores: { rows: 3 } },
      ],
    },
  });
});
