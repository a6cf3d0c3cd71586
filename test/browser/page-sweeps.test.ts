import { beforeAll, expect, test, vi } from 'vitest';
import { expectFaults, figure, heading, page, refusedWith, stack, tab, unfold, usePage } from './use-page.js';
import { TIMEOUT_MS } from './watched-page.js';

// Sweeps in the page: from the form to the best variant, and a variant that waits at a rung.

const ROWS = Array.from(
  { length: 24 },
  (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, completion: ` It is ${i}.` })}\n`,
);
const STEPS = 12;
const RANKS = [2, 4, 16];
/** The message of the console for a refused dry run. */

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });

// One job after the other, so that a test can hold one of them back.
usePage({ env: () => ({ JOBS_AT_ONCE: '1' }) });

let dataset: string;
beforeAll(async () => {
  ({ id: dataset } = await stack.client.uploadDataset({ text: ROWS.join('') }, { name: 'sayings' }));
});
expectFaults(refusedWith(400, 422));

const field = (label: string) => page.getByLabel(label, { exact: true });
const state = () => page.locator('.view-title');
const variants = () => page.getByRole('table', { name: /^Variants, / });
const names = () => variants().locator('tbody th').allTextContents();
const requestInPage = async () =>
  JSON.parse((await page.getByRole('region', { name: 'the request as JSON' }).textContent()) ?? '');
const eventually = <Value>(read: () => Value) => expect.poll(read, { timeout: TIMEOUT_MS });

test('a sweep is started from the form, which shows its plan and its faults', async () => {
  await tab.open('/sweeps');
  await page.getByText('There are no sweeps yet.').waitFor();
  await page.getByRole('link', { name: 'Try several values' }).click();
  await heading('New job').waitFor();
  await field('Base model (required)').selectOption('tiny-llama');
  await field('Dataset (required)').selectOption(dataset);
  await field('Name').fill('ranks');
  await unfold('Training');
  await field('Number of steps').fill(String(STEPS));
  await unfold('Try several values');
  await field('Ranks to try').fill('2, 0');
  await page.locator('.field-error').getByText('lora.r cannot be 0').waitFor();
  await field('Ranks to try').fill(RANKS.join(', '));
  await page.getByRole('heading', { name: 'Plan of the sweep' }).waitFor();
  await page.getByText('Checked: it can be started.').waitFor();
  const planned = () => page.getByRole('table', { name: 'Planned variants' }).locator('tbody tr').count();
  await eventually(planned).toBe(3);
  await field('Combinations to leave out').fill('lora.r=..2; lora.r=16 & lora.alpha=1');
  await page.locator('.field-error').getByText('"lora.alpha" is no field of the space.').waitFor();
  await field('Combinations to leave out').fill('lora.r=..2');
  await eventually(planned).toBe(2);
  await field('Combinations to leave out').fill('');
  await field('Combinations to draw').fill('1');
  await eventually(planned).toBe(1);
  await field('Combinations to draw').fill('');
  await field('Adapters to keep').fill('2');
  await eventually(planned).toBe(3);
  await page.getByText('Checked: it can be started.').waitFor();
  expect(await requestInPage()).toMatchObject({
    space: { 'lora.r': { values: RANKS } },
    publish_best: 2,
    job: { validation: { split: 0.05 } },
  });
  await page.getByRole('button', { name: 'Start the sweep' }).click();
  await heading('ranks').waitFor();
});

test('its variants are over each other, and the best comes first', async () => {
  await state().getByText('succeeded').waitFor();
  const [sweep] = (await stack.client.listSweeps()).data;
  const ranked = sweep!.variants.toSorted((one, other) => one.rank! - other.rank!);
  await eventually(async () => (await names()).map((name) => name.trim())).toEqual(
    ranked.map(({ variant }) => `#${variant}`),
  );
  await page.getByText('The best is').waitFor();
  for (const chart of ['Held-out loss', 'Training loss']) {
    for (const [index, rank] of RANKS.entries())
      await figure(chart)
        .getByText(new RegExp(`^#${index + 1}: r ${rank}: (from )?\\S+ (at|to)`))
        .waitFor();
  }
  expect(await figure('Rank (r)').locator('circle').count()).toBe(3);
  expect(await figure('All fields').locator('polyline').count()).toBe(3);
  await page.getByRole('button', { name: 'Variant' }).click();
  await eventually(async () => (await names()).map((name) => name.trim())).toEqual(['#1', '#2', '#3']);
  await page.reload();
  await eventually(async () => (await names()).map((name) => name.trim())).toEqual(['#1', '#2', '#3']);
});

test('a job of it leads to it, and the best one is trained longer', async () => {
  const [sweep] = (await stack.client.listSweeps()).data;
  const best = sweep!.variants.find(({ job }) => job === sweep!.best)!;
  // The sweep is there, so that the page never says otherwise, not even for one rendering.
  await page.evaluate(`new MutationObserver(() => {
    if (document.body.textContent.includes('of a sweep that was deleted')) console.error('the sweep was shown as deleted');
  }).observe(document.body, { subtree: true, childList: true, characterData: true })`);
  await variants()
    .getByRole('link', { name: `#${best.variant}`, exact: true })
    .click();
  await page.getByText(`It is variant ${best.variant} of the sweep`).waitFor();
  await page.getByRole('main').getByRole('link', { name: 'ranks', exact: true }).click();
  await page.getByRole('link', { name: 'Train the best one longer' }).click();
  await heading('New job').waitFor();
  await page.getByText('Checked: it can be started.').waitFor();
  expect(await requestInPage()).toMatchObject({
    dataset,
    lora: { r: best.values['lora.r'] },
    training: { max_steps: 2 * STEPS },
    validation: { split: 0.05 },
  });
  await page.getByRole('navigation').getByRole('link', { name: 'Sweeps' }).click();
  await page.getByRole('row', { name: /^ranks succeeded 3 of 3 have ended/ }).waitFor();
});

test('a variant at a rung waits for the others, and is not offered to resume', async () => {
  const { client } = stack;
  const template = { base_model: 'tiny-llama', dataset, validation: { split: 0.25 } };
  const before = await client.createJob({ ...template, training: { max_steps: 1_000_000 } });
  await eventually(async () => (await client.getJob(before.id)).status).toBe('running');
  const sweep = await client.createSweep({
    job: { ...template, training: { max_steps: STEPS, batch_size: 4 } },
    space: { 'lora.r': { values: [2, 4] } },
    halving: { first_steps: 3 },
    name: 'halved',
  });
  const [first, second] = sweep.variants.map(({ job }) => job) as [string, string];
  // It waits in the queue behind the other job, so it is paused before it trains.
  await client.pauseJob(second);
  await client.cancelJob(before.id);
  await tab.open(`/jobs/${first}`);
  await page.getByText('It waits at step 3 for the other variants of its sweep.').waitFor();
  const resume = page.getByRole('button', { name: 'Resume', exact: true });
  expect(await resume.count()).toBe(0);
  await page.getByRole('main').getByRole('link', { name: 'halved', exact: true }).click();
  await page.getByText('At step 3 the better half of 2 variants goes on. So far 1 has come there.').waitFor();
  await variants()
    .getByRole('row', { name: /waits at 3/ })
    .waitFor();
  await variants().getByRole('link', { name: '#2', exact: true }).click();
  await resume.click();
  await page.getByRole('main').getByRole('link', { name: 'halved', exact: true }).click();
  await state().getByText('succeeded').waitFor();
  const [rung] = (await client.getSweep(sweep.id)).rungs;
  expect(rung).toMatchObject({ step: 3, kept: [expect.any(Number)], stopped: [expect.any(Number)] });
  await page
    .getByRole('table', { name: 'Rungs' })
    .getByRole('row', { name: `3 #${rung!.kept[0]} #${rung!.stopped[0]}` })
    .waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete the sweep' }).click();
  await heading('Sweeps').waitFor();
  await page.getByRole('link', { name: 'ranks', exact: true }).waitFor();
  expect(await page.getByRole('link', { name: 'halved', exact: true }).count()).toBe(0);
});
