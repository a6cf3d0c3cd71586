// npm run screenshots: trains two short jobs and a sweep on the demo model and takes the pictures of README and docs/page.md.
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient, sweepProgressText } from '../packages/client/dist/index.js';
import { findBrowser } from './setup/browser.mjs';
import { DEMO_MODEL_NAME } from './setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from './setup/locations.mjs';
import { SetupError } from './setup/run-steps.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { startStack } from './stack/start-stack.mjs';

const PICTURES = path.join(ROOT_DIR, 'docs/pictures');
/** Pictures are in the repository, so they must stay small. */
const MAX_BYTES = 200_000;
/** The time for which a training may report nothing new. Before the first step the worker measures its machine and loads the model. */
const SILENCE_MS = 300_000;
/** The time between two lines about a training. */
const LINE_EVERY_MS = 5_000;
/** The most that a view takes to show what it should: an answer of two models is one of them. */
const VIEW_MS = 120_000;
/** The screens of each picture, and what its name ends in. */
const SCREENS = /** @type {const} */ ([
  { suffix: '', width: 1280, height: 900, colorScheme: 'light' },
  { suffix: '-dark', width: 1280, height: 900, colorScheme: 'dark' },
  { suffix: '-narrow', width: 390, height: 844, colorScheme: 'light' },
  { suffix: '-narrow-dark', width: 390, height: 844, colorScheme: 'dark' },
]);
const QUESTION = 'the nineteenth of March, 1993';
const SYSTEM = 'Write the date in ISO format.';

/** @type {Omit<import('../packages/client/dist/index.js').JobRequest, 'dataset'>} */
const JOB = {
  base_model: DEMO_MODEL_NAME,
  validation: { split: 0.05 },
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: { max_steps: 40, batch_size: 4, warmup_ratio: 0.1, max_seq_length: 128, eval_every_steps: 10 },
  samples: {
    prompts: [
      [
        { role: 'system', content: SYSTEM },
        { role: 'user', content: QUESTION },
      ],
    ],
    max_tokens: 16,
  },
};
const JOBS = [
  { name: 'dates-slow', rate: 1e-4 },
  { name: 'dates', rate: 1e-3 },
];

/** A sweep of few steps, so that the pictures take minutes. */
const SWEEP = {
  name: 'dates-sweep',
  space: { 'training.learning_rate': { values: [3e-4, 1e-3, 3e-3] }, 'lora.r': { values: [4, 16] } },
  halving: { first_steps: 4 },
};
const SWEEP_STEPS = 16;

/**
 * @typedef {object} Picture
 * @property {string} name of its file
 * @property {string} route
 * @property {(page: import('playwright-core').Page) => Promise<unknown>} ready waits until the view shows what it should
 */

await runAsCommand(async () => {
  const { modelsDir } = await setUp({ browser: true });
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-pictures-'));
  // A Redis of its own, so that nothing else is in the pictures.
  const stack = await startStack({ dataDir: folder, modelsDir, env: { ...process.env, REDIS_URL: '' } });
  for (const what of stack.missing()) console.log(`Not yet: ${what}`);
  try {
    await takePictures(`${stack.apiUrl}/`, await trainJobs(stack.apiUrl));
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
  return 0;
});

/** @param {string} baseUrl */
async function trainJobs(baseUrl) {
  const client = createClient({ baseUrl });
  const file = path.join(ROOT_DIR, 'examples/dates/train.jsonl');
  const dataset = await client.uploadDataset({ file }, { name: 'dates.jsonl' });
  const started = await Promise.all(
    JOBS.map(({ name, rate }) =>
      client.createJob({
        ...JOB,
        dataset: dataset.id,
        name,
        training: { ...JOB.training, learning_rate: rate },
      }),
    ),
  );
  const jobs = await Promise.all(
    started.map(({ id, name }) =>
      withProgress(`${name}`, (signal, report) =>
        client.waitForJob(id, {
          signal,
          onEvent: ({ type, data }) =>
            report(type === 'step-finished' ? `step ${data.step} of ${data.total_steps}` : type),
        }),
      ),
    ),
  );
  const [slow, best] = jobs;
  if (!slow || !best?.adapter)
    throw new Error(`the jobs did not succeed: ${JSON.stringify(jobs.map((job) => job.error))}`);
  const { id: sweep } = await client.createSweep({
    ...SWEEP,
    job: {
      base_model: DEMO_MODEL_NAME,
      dataset: dataset.id,
      validation: { split: 0.05 },
      training: { max_steps: SWEEP_STEPS, batch_size: 4, warmup_ratio: 0.1, max_seq_length: 128, eval_every_steps: 4 },
    },
  });
  const { status } = await withProgress(SWEEP.name, (signal, report) =>
    client.waitForSweep(sweep, { signal, onProgress: (now) => report(sweepProgressText(now)) }),
  );
  if (status !== 'succeeded') throw new Error(`the sweep ${status}`);
  return { dataset: dataset.id, slow: slow.id, best: best.id, adapter: best.adapter, sweep };
}

/**
 * Prints the progress of a training, and gives it up once that stays the same for {@link SILENCE_MS}.
 *
 * @template Result
 * @param {string} name
 * @param {(signal: AbortSignal, report: (progress: string) => void) => Promise<Result>} wait
 */
async function withProgress(name, wait) {
  const over = new AbortController();
  let last = 'nothing yet';
  let printedMs = Number.NEGATIVE_INFINITY;
  const silence = setTimeout(
    () => over.abort(new Error(`${name} has reported nothing for ${SILENCE_MS / 1000} s, last: ${last}`)),
    SILENCE_MS,
  );
  try {
    return await wait(over.signal, (progress) => {
      if (progress === last) return;
      last = progress;
      silence.refresh();
      if (performance.now() - printedMs < LINE_EVERY_MS) return;
      printedMs = performance.now();
      console.log(`${name}: ${progress}`);
    });
  } finally {
    clearTimeout(silence);
  }
}

/** @param {string} url @param {Awaited<ReturnType<typeof trainJobs>>} made */
async function takePictures(url, { dataset, slow, best, adapter, sweep }) {
  const { chromium } = await import('playwright-core');
  const { file, env } = await findBrowser({
    cache: cacheDir(process.env),
    env: process.env,
    progress: { update() {} },
  });
  const browser = await chromium.launch({
    executablePath: file,
    env: /** @type {Record<string, string>} */ ({ ...process.env, ...env }),
  });
  const context = await browser.newContext({
    reducedMotion: 'reduce',
    locale: 'en-US',
    timezoneId: 'UTC',
  });
  context.setDefaultTimeout(VIEW_MS);
  const page = await context.newPage();
  await mkdir(PICTURES, { recursive: true });

  /** @type {Picture[]} */
  const pictures = [
    { name: 'jobs', route: '/jobs', ready: (at) => at.locator('.loss-line').nth(1).waitFor() },
    {
      name: 'job',
      route: `/jobs/${best}`,
      ready: (at) => at.getByRole('figure', { name: 'Loss', exact: true }).locator('canvas').waitFor(),
    },
    { name: 'compare', route: `/compare?jobs=${best},${slow}`, ready: (at) => at.locator('canvas').first().waitFor() },
    {
      name: 'rows',
      route: `/datasets/${dataset}?model=${DEMO_MODEL_NAME}`,
      ready: (at) => at.locator('mark.trained').first().waitFor(),
    },
    {
      name: 'new-job',
      route: `/new-job?dataset=${dataset}&base_model=${DEMO_MODEL_NAME}&name=dates`,
      ready: (at) => at.getByText('Checked: it can be started.').waitFor(),
    },
    {
      name: 'adapter',
      route: `/adapters/${adapter}`,
      ready: (at) => at.getByRole('heading', { name: 'Downloads' }).waitFor(),
    },
    {
      name: 'sweep',
      route: `/sweeps/${sweep}`,
      ready: (at) => at.getByRole('figure', { name: 'Training loss', exact: true }).locator('canvas').waitFor(),
    },
    { name: 'sweep-fields', route: `/sweeps/${sweep}`, ready: fieldsOfSweep },
    { name: 'chat', route: `/chat?model=${adapter}`, ready: chat },
  ];
  try {
    for (const { name, route, ready } of pictures) {
      await page.goto('about:blank');
      await page.goto(`${url}#${route}`);
      await ready(page);
      for (const screen of SCREENS) await takePicture(page, name, screen);
    }
  } finally {
    await browser.close();
  }
}

/** @param {import('playwright-core').Page} page @param {string} name @param {typeof SCREENS[number]} screen */
async function takePicture(page, name, { suffix, width, height, colorScheme }) {
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme });
  // Charts are drawn anew in the frame after that.
  await page.evaluate('new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))');
  const picture = path.join(PICTURES, `${name}${suffix}.png`);
  await page.screenshot({ path: picture, animations: 'disabled' });
  const { size } = await stat(picture);
  console.log(`${path.relative(ROOT_DIR, picture)}, ${Math.round(size / 1000)} kB`);
  if (size > MAX_BYTES) throw new SetupError(`${picture} is too large`, 'show less of the page in it.');
}

/** Waits for the plots of the fields, which stand below. @param {import('playwright-core').Page} page */
async function fieldsOfSweep(page) {
  const plots = page.getByRole('figure', { name: 'All fields', exact: true });
  await plots.waitFor();
  await plots.scrollIntoViewIfNeeded();
}

/** Asks the adapter and its base model. @param {import('playwright-core').Page} page */
async function chat(page) {
  await page.getByText('Settings', { exact: true }).click();
  await page.getByLabel('System message').fill(SYSTEM);
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Maximum tokens').fill('24');
  await page.getByText('Settings', { exact: true }).click();
  await page.getByLabel('Your message').fill(QUESTION);
  await page.getByLabel('Your message').press('Enter');
  await page.getByText('answering …').first().waitFor();
  await page.getByText('answering …').first().waitFor({ state: 'detached' });
}
