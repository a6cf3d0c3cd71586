import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { AxeResults } from 'axe-core';
import type { Locator } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { JudgeServer } from '../judge-server.js';
import { HAS_ALL_CASES } from '../usual-cases.js';
import { page, stack, tab, usePage } from './use-page.js';
import { TIMEOUT_MS } from './watched-page.js';

// Every view of the page for everyone: with text of others that tries to become code, for assistive technology (axe), in light
// and dark, on a wide and a narrow screen, and the main job without a mouse.

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** Text that runs if it becomes HTML, an attribute, a script or an address. */
const HOSTILE = `"'><img src=x onerror=alert(1)><script>alert(2)</script>`;
const WIDTHS = { desktop: 1280, phone: 320 };
/** The message of the console for views of things that do not exist. */
const MISSING = /^console: Failed to load resource: the server responded with a status of (400|404|422) /;

vi.setConfig({ testTimeout: 4 * TIMEOUT_MS });

const JUDGE_KEY = 'sk-of-the-operator';
let judge: JudgeServer;
beforeAll(async () => {
  judge = await new JudgeServer(JUDGE_KEY).start();
  judge.judging = () => `${HOSTILE} Verdict: A`;
});
afterAll(() => judge.stop());
usePage({ env: () => ({ JUDGE_SERVERS: judge.url, JUDGE_API_KEY: JUDGE_KEY }) });

let dataset: string;
let job: string;
let cancelled: string;
let adapter: string;
let sweep: string;
let comparison: string;

beforeAll(async () => {
  const { client } = stack;
  const template = path.join(stack.modelsDir, 'tiny-llama/chat_template.jinja');
  await writeFile(template, `{# ${HOSTILE} #}${await readFile(template, 'utf8')}`);
  const rows = Array.from({ length: 6 }, (_, i) => ({
    messages: [
      { role: 'user', content: `${HOSTILE} ${i}` },
      { role: 'assistant', content: `${i} ${HOSTILE}` },
    ],
  }));
  const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  ({ id: dataset } = await client.uploadDataset({ blob: new Blob([lines]) }, { name: HOSTILE }));
  const request = { base_model: 'tiny-llama', dataset, name: HOSTILE, metadata: { [HOSTILE.slice(0, 64)]: HOSTILE } };
  ({ id: job } = await client.createJob({
    ...request,
    validation: { split: 0.25 },
    training: { max_steps: 20, batch_size: 4, eval_every_steps: 10 },
    samples: { prompts: [HOSTILE], max_tokens: 8 },
  }));
  adapter = (await client.waitForJob(job)).adapter!;
  ({ id: sweep } = await client.createSweep({
    job: { ...request, validation: { split: 0.25 }, training: { max_steps: 4, batch_size: 4 } },
    space: { 'lora.r': { values: [2, 4] }, 'training.learning_rate': { values: [1e-3, 1e-2] } },
    halving: { first_steps: 2 },
    name: HOSTILE,
  }));
  await client.waitForSweep(sweep);
  ({ id: comparison } = await client.createComparison({
    ...{ models: [adapter, 'tiny-llama'], dataset, max_tokens: 8, name: HOSTILE },
    judge: { model: 'judge-1', url: judge.url, rubric: HOSTILE },
  }));
  await client.waitForComparison(comparison);
  ({ id: cancelled } = await client.createJob({ ...request, training: { max_steps: 1_000_000 } }));
  await client.cancelJob(cancelled);
});

const routes = (): string[] => [
  '/jobs',
  `/jobs/${job}`,
  `/jobs/${cancelled}`,
  '/jobs/job_000000000000000000000000',
  '/sweeps',
  `/sweeps/${sweep}`,
  `/compare?jobs=${job},${cancelled}`,
  `/new-job?dataset=${dataset}&base_model=tiny-llama&name=${encodeURIComponent(HOSTILE)}&lora.target_modules=${encodeURIComponent(HOSTILE)}`,
  '/datasets',
  `/datasets/${dataset}`,
  `/datasets/${dataset}?model=tiny-llama&ids=1`,
  '/models',
  '/models/tiny-llama',
  '/adapters',
  `/adapters/${adapter}`,
  '/comparisons',
  `/comparisons/${comparison}`,
  `/chat?model=${adapter}`,
  '/machines',
  `/nowhere/${encodeURIComponent(HOSTILE)}`,
];

/** Opens a route by its address in a fresh document, and waits until everything in it is loaded. */
async function visit(route: string): Promise<void> {
  await page.goto('about:blank');
  await tab.open(route);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await expect.poll(() => page.locator('.loading').count()).toBe(0);
}

/** The violations that axe finds in the page as it is. @param rules - By default all */
async function violations(rules?: readonly string[]): Promise<string[]> {
  if ((await page.evaluate('typeof axe')) === 'undefined') await page.evaluate(await readFile(AXE, 'utf8'));
  const options = JSON.stringify({ resultTypes: ['violations'], ...(rules === undefined ? {} : { runOnly: rules }) });
  const { violations: found } = (await page.evaluate(`axe.run(document, ${options})`)) as AxeResults;
  return found.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html }) => html).join('\n  ')}`);
}

test('text of others stays text, in every view', async () => {
  const shown = new Map<string, boolean>();
  for (const route of routes()) {
    await visit(route);
    await page.evaluate('for (const one of document.querySelectorAll("details")) one.open = true');
    shown.set(
      route.split(/[?]/)[0]!,
      ((await page.locator('#app').textContent()) ?? '').includes('<img src=x onerror=alert(1)>'),
    );
    expect(await page.locator('img, #app script, a[href^="javascript"]').count(), route).toBe(0);
  }
  const withText = ['/jobs', `/jobs/${job}`, '/datasets', `/datasets/${dataset}`, '/adapters', `/adapters/${adapter}`];
  for (const route of [
    ...withText,
    '/sweeps',
    `/sweeps/${sweep}`,
    '/comparisons',
    `/comparisons/${comparison}`,
    '/models/tiny-llama',
    '/compare',
    '/new-job',
  ])
    expect(shown.get(route), route).toBe(true);
  expect((await tab.faults()).filter((fault) => !MISSING.test(fault))).toEqual([]);
});

describe.each(HAS_ALL_CASES ? Object.entries(WIDTHS) : [['phone', WIDTHS.phone] as const])('on a %s', (_, width) => {
  test('axe finds nothing in any view, light or dark, and no view is wider than the screen', async () => {
    await page.setViewportSize({ width, height: 800 });
    const found: string[] = [];
    for (const route of routes()) {
      await visit(route);
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        // Only colours differ in the dark.
        const rules = colorScheme === 'dark' ? ['color-contrast'] : undefined;
        found.push(...(await violations(rules)).map((violation) => `${route} ${colorScheme}: ${violation}`));
      }
      const wide = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
      if (Number(wide) > 0) found.push(`${route} is ${wide} pixels wider than the screen`);
    }
    expect(found).toEqual([]);
  });

  test('the list is not wider than the screen while a job runs, in a wide font', async () => {
    await page.setViewportSize({ width, height: 800 });
    const request = { base_model: 'tiny-llama', dataset, training: { max_steps: 1_000_000 } };
    const { id } = await stack.client.createJob(request);
    onTestFinished(async () => void (await stack.client.cancelJob(id)));
    await visit('/jobs');
    await page.locator('.data-table progress').first().waitFor();
    await page.evaluate('document.querySelector("input[type=search]").style.font = "24px monospace"');
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
  });
});

test('on a phone, the message box of a chat is in sight, also after answers', async () => {
  await page.setViewportSize({ width: 390, height: 664 });
  await visit(`/chat?model=${adapter}`);
  const message = page.getByLabel('Your message');
  const send = page.getByRole('button', { name: 'Send' });
  const inSight = async (element: Locator) => {
    const { y, height } = (await element.boundingBox())!;
    return y >= 0 && y + height <= 664;
  };
  expect([await inSight(message), await inSight(send)]).toEqual([true, true]);
  await page.getByText('Settings', { exact: true }).click();
  await page.getByLabel('Maximum tokens').fill('8');
  await message.fill('word '.repeat(200));
  await send.click();
  await page.getByRole('region', { name: 'Turn 1' }).waitFor();
  await page.evaluate('scrollTo(0, 0)');
  expect([await inSight(message), await inSight(send)]).toEqual([true, true]);
});

test('twenty jobs are in sight at 1440 × 900', async () => {
  const { client } = stack;
  const jobs = (await client.listJobs({ limit: 100 })).data.length;
  for (let number = jobs; number < 24; number += 1) {
    const more = { base_model: 'tiny-llama', dataset, name: `a job of a list ${number}`, training: { max_steps: 1 } };
    const { id } = await client.createJob(more);
    await client.cancelJob(id).catch(() => {});
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await visit('/jobs');
  await expect.poll(() => page.locator('.data-table tbody tr').count()).toBeGreaterThanOrEqual(20);
  const { y, height } = (await page.locator('.data-table tbody tr').nth(19).boundingBox())!;
  expect(y + height).toBeLessThanOrEqual(900);
  expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
});

describe('without a mouse', () => {
  /** Moves the focus with Tab until an element has it. */
  async function tabTo(target: Locator): Promise<void> {
    await target.waitFor();
    for (let presses = 0; presses < 200; presses += 1) {
      if (await target.evaluate((element) => element === element.ownerDocument.activeElement)) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`200 presses of Tab do not reach ${target}`);
  }
  const press = async (target: Locator, key = 'Enter') => {
    await tabTo(target);
    await page.keyboard.press(key);
  };

  test('a dataset is uploaded, a job is started from it, watched and cancelled', async () => {
    await page.setViewportSize({ width: WIDTHS.desktop, height: 800 });
    await visit('/jobs');
    await press(page.getByRole('link', { name: 'Skip to the content' }));
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    await visit('/jobs');
    await press(page.getByRole('navigation').getByRole('link', { name: 'Datasets' }));
    await page.getByRole('heading', { level: 1, name: 'Datasets' }).waitFor();
    const chooser = page.waitForEvent('filechooser');
    await press(page.getByLabel('File'));
    const buffer = Buffer.from(`${JSON.stringify({ prompt: 'Say 1.', completion: ' It is 1.' })}\n`.repeat(8));
    await (await chooser).setFiles({ name: 'by-keys.jsonl', mimeType: 'application/x-ndjson', buffer });
    await press(page.getByRole('status').getByRole('link', { name: 'by-keys.jsonl' }));
    await press(page.getByRole('main').getByRole('link', { name: 'New job' }));
    await page.getByRole('heading', { level: 1, name: 'New job' }).waitFor();
    await tabTo(page.getByLabel('Base model (required)'));
    await page.keyboard.type('tiny');
    await page.getByText('Checked: it can be started.').waitFor();
    await press(page.locator('summary', { hasText: 'Training' }));
    await tabTo(page.getByLabel('Number of steps'));
    await page.keyboard.type('200000');
    await page.getByText('Checked: it can be started.').waitFor();
    await press(page.getByRole('button', { name: 'Start the job' }));
    const state = page.locator('.view-title');
    await state.getByText('running', { exact: true }).waitFor();
    await press(page.getByRole('button', { name: 'Cancel the job' }));
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    expect(await violations()).toEqual([]);
    await page.keyboard.press('Escape');
    await expect.poll(() => dialog.count()).toBe(0);
    await press(page.getByRole('button', { name: 'Cancel the job' }));
    await press(dialog.getByRole('button', { name: 'Cancel the job' }));
    await state.getByText('cancelled', { exact: true }).waitFor();
    expect((await tab.faults()).filter((fault) => !MISSING.test(fault))).toEqual([]);
  });
});
