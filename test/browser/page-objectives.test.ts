import { beforeAll, expect, test, vi } from 'vitest';
import { expectFaults, figure, heading, page, refusedWith, stack, tab, unfold, usePage } from './use-page.js';
import { TIMEOUT_MS } from './watched-page.js';

// Jobs on preferences and on rewards in the page: rows with both answers, the form, curves, and graded answers.

const PAIRS = Array.from({ length: 12 }, (_, i) => ({
  prompt: `count to ${i}`,
  chosen: ` yes ${i}`,
  rejected: ` no, never ${i}`,
}));
const PROMPTS = Array.from({ length: 8 }, (_, i) => ({ prompt: `count to ${i}`, reference: 'a' }));
const STEPS = 4;
/** The message of the console for a refused dry run. */

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });

usePage();

let pairs: string;
let prompts: string;
beforeAll(async () => {
  const upload = async (rows: readonly object[], name: string) => {
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    return (await stack.client.uploadDataset({ text }, { name })).id;
  };
  pairs = await upload(PAIRS, 'pairs');
  prompts = await upload(PROMPTS, 'prompts');
});
expectFaults(refusedWith(400, 422));

const field = (label: string) => page.getByLabel(label, { exact: true });
/** Waits for a curve with its first and its last step. */
const curve = (chart: string, line: string) =>
  figure(chart)
    .getByText(new RegExp(`^${line}: from \\S+ at step 1 to \\S+ at step ${STEPS}`))
    .waitFor();
const succeeded = () => page.locator('.view-title').getByText('succeeded').waitFor();
const part = (name: string) =>
  page.getByRole('navigation', { name: 'Parts of the job' }).getByRole('link', { name }).click();

test('a pair has both of its answers as tokens, with what is trained and how long each is', async () => {
  await tab.open(`/datasets/${pairs}`);
  await page.getByLabel('Show').selectOption({ label: 'as tokens of tiny-llama' });
  const row = page.getByRole('listitem').filter({ has: page.getByRole('heading', { name: 'Line 3', exact: true }) });
  await row.getByRole('heading', { name: 'Rejected' }).waitFor();
  expect(await row.getByRole('heading', { level: 4 }).allTextContents()).toEqual(['Chosen', 'Rejected']);
  const trained = await row
    .locator('.token-text')
    .evaluateAll((texts) =>
      texts.map((text) => Array.from(text.querySelectorAll('mark.trained .token'), ({ textContent }) => textContent)),
    );
  const [chosen, rejected] = trained.map((tokens) => tokens.join('').replaceAll(/[␣·]/g, ' '));
  expect([chosen, rejected]).toEqual([expect.stringContaining('yes 2'), expect.stringContaining('no, never 2')]);
  for (const [index, tokens] of trained.entries()) {
    const counts = await row
      .getByText(/^\d+ tokens, \d+ trained; trained on as it is$/)
      .nth(index)
      .textContent();
    expect(counts).toContain(` ${tokens.length} trained;`);
  }
});

test('a job on pairs is started from the form, and has curves of rewards, margin and log-probabilities', async () => {
  await page.getByRole('main').getByRole('link', { name: 'New job' }).click();
  await heading('New job').waitFor();
  await field('Base model (required)').selectOption('tiny-llama');
  await page.getByText(/Set objective to \{"kind": "preference"/).waitFor();
  // The fault has opened the group of its field.
  await field('What is learned').selectOption('preference');
  await field('Loss of preferences').selectOption('ipo');
  await unfold('Training');
  await field('Number of steps').fill(String(STEPS));
  await page.getByText('Checked: it can be started.').waitFor();
  // The usual rate moves nothing in so few steps: both the form and the job say so.
  const warning = page.getByRole('region', { name: 'Warnings' }).getByText(/would change next to nothing/);
  await warning.waitFor();
  await page.getByRole('button', { name: 'Start the job' }).click();
  await succeeded();
  await warning.waitFor();
  for (const line of ['chosen', 'rejected', 'margin']) await curve('Rewards', line);
  for (const line of ['chosen', 'rejected']) await curve('Log-probabilities', line);
  await part('Settings and report');
  await page.getByText(/^11 to train on, of \S+ % the reference already prefers the chosen answer$/).waitFor();
});

test('a job on rewards has curves of them, and the graded answers of each step', async () => {
  const { id } = await stack.client.createJob({
    base_model: 'tiny-llama',
    dataset: prompts,
    objective: {
      kind: 'group-relative',
      grader: { type: 'string_check', reference: '{{item.reference}}', operation: 'like' },
      group_size: 4,
      max_completion_tokens: 5,
    },
    training: { max_steps: STEPS, batch_size: 2, gradient_accumulation_steps: 1 },
  });
  await tab.open(`/jobs/${id}`);
  await succeeded();
  await curve('Reward', 'mean of a step');
  await curve('Answer length', 'mean tokens');
  for (const line of ['groups of equal rewards', 'answers cut', 'tokens clipped']) await curve('Shares', line);
  await part('Answers');
  const answers = page.getByRole('table', { name: 'Answers with their rewards' });
  await expect.poll(() => answers.locator('tbody tr').count()).toBe(4);
  expect(await page.getByLabel('Of step').locator('option').allTextContents()).toEqual(['1', '2', '3', '4']);
  const { data: events } = await stack.client.listEvents(id);
  const rounds = events.flatMap((event) => (event.type === 'answers-graded' ? [event.data] : []));
  await page.getByLabel('Of step').selectOption('2');
  await page.getByRole('heading', { name: new RegExp(`^End of the prompt of line ${rounds[1]!.line}: `) }).waitFor();
});
