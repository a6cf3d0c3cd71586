import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openExampleStore } from '../../../packages/planning/dist/index.js';
import { engine, PassScheduler } from '../../../packages/training/dist/index.js';
import { prepareRun } from '../../../packages/training/dist/prepare-run.js';
import { jobSpecOf } from '../../../services/api/dist/jobs/job-inputs.js';
import { datasetOf } from '../../bench/rows.mjs';

/** Steps that start threads, fill caches and choose products. */
const WARM_UP_STEPS = 2;
const RANK = 16;

/**
 * Rows and the settings with which they are trained.
 *
 * @typedef {object} MeasuredJob
 * @property {unknown[]} rows
 * @property {Parameters<typeof datasetOf>[1]} format
 * @property {import('../../../packages/contracts/dist/index.js').ObjectiveRequest} [objective]
 * @property {NonNullable<import('../../../packages/contracts/dist/index.js').JobRequest['training']>} training
 *
 * @typedef {object} MeasuredStep
 * @property {number} seconds
 * @property {number} tokens that its passes computed
 * @property {Record<string, number>} counts of the engine
 *
 * @typedef {object} Base
 * @property {string} model folder
 * @property {import('../../../packages/training/dist/index.js').BaseModelCache} cache
 * @property {any} machine its measurements, or null
 */

/**
 * Trains jobs to their ends on one base model, in passes that they share, and measures each step of all together.
 *
 * @param {Base & { jobs: MeasuredJob[], onLoaded?: () => void, onStep?: (steps: MeasuredStep[]) => void }} options `onStep`: with the
 *   steps so far
 * @returns {Promise<{ error: string, isMemory: boolean } | ReturnType<typeof figuresOf>>} `error` where it failed, for instance as the
 *   card has no memory for it
 */
export async function measureJobs({ model, cache, machine, jobs, onLoaded = () => {}, onStep = () => {} }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-gpu-check-'));
  /** @type {import('../../../packages/training/dist/prepare-run.js').PreparedRun[]} */
  const runs = [];
  const passes = { count: 0, jobs: 0, tokens: 0 };
  try {
    const scheduler = new PassScheduler({
      ...(machine === null ? {} : { passTokens: machine.pass_tokens }),
      onPass(pass) {
        passes.count++;
        passes.jobs += pass.jobs;
        passes.tokens += pass.tokens;
      },
    });
    /** @type {number[]} */
    const losses = [];
    /** @type {any} */
    let report = null;
    for (const [index, job] of jobs.entries()) {
      const options = await runOptions({
        folder: path.join(folder, String(index)),
        model,
        cache,
        machine,
        job,
        seed: index,
      });
      const onEvent = (
        /** @type {import('../../../packages/contracts/dist/index.js').NewJobEvent} */ { type, data },
      ) => {
        if (type === 'report-ready') report = data.report;
        if (type === 'step-finished' && index === 0) losses.push(data.loss);
      };
      runs.push(await prepareRun({ ...options, onEvent }, scheduler.join({ signal: options.signal })));
    }
    onLoaded();
    engine.cuda?.resetPeakMemory();
    passes.count = 0;
    passes.jobs = 0;
    /** @type {MeasuredStep[]} */
    const steps = [];
    while (runs.every(({ run }) => !run.isOver)) {
      const [before, tokensBefore, start] = [countsNow(), passes.tokens, performance.now()];
      await Promise.all(runs.map(({ run }) => run.step()));
      const seconds = (performance.now() - start) / 1e3;
      steps.push({ seconds, tokens: passes.tokens - tokensBefore, counts: difference(countsNow(), before) });
      onStep(steps);
    }
    return figuresOf({ steps, report, losses, jobsPerPass: passes.jobs / passes.count });
  } catch (error) {
    const isMemory = /out of memory|OUT_OF_MEMORY|OOM|does not fit/i.test(String(error));
    return { error: error instanceof Error ? error.message.slice(0, 600) : String(error), isMemory };
  } finally {
    for (const run of runs) await run.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * The options with which a job is planned and trained.
 *
 * @param {Base & { folder: string, job: MeasuredJob, seed?: number }} options
 */
export async function runOptions({ folder, model, cache, machine, job, seed = 0 }) {
  const { text, dataset } = datasetOf(job.rows, job.format);
  const rowsFile = path.join(folder, 'rows.jsonl');
  const examplesFolder = path.join(folder, 'examples');
  await mkdir(examplesFolder, { recursive: true });
  await writeFile(rowsFile, text);
  const spec = jobSpecOf({
    base_model: path.basename(model),
    dataset: dataset.id,
    lora: { r: RANK, alpha: 2 * RANK, target_modules: 'all-linear' },
    ...(job.objective === undefined ? {} : { objective: job.objective }),
    training: { learning_rate: 1e-4, epochs: 1, seed, ...job.training },
  });
  return {
    spec,
    modelFolder: model,
    dataset,
    rowsFile,
    // The type check sees the sources of one package and the build of the other.
    examples: /** @type {any} */ (await openExampleStore({ dataDir: examplesFolder, maxBytes: 0 })),
    checkpointFolder: path.join(folder, 'checkpoints'),
    outputFolder: folder,
    initialAdapterFolder: null,
    machine,
    signal: new AbortController().signal,
    cache,
  };
}

/**
 * The measurements of a worker on this machine, on which estimates are based; null: no worker did.
 *
 * @param {string | undefined} dataDir its data folder
 */
export async function measuredMachine(dataDir) {
  const folder = path.join(dataDir ?? '', 'machines');
  const files = await readdir(folder).catch(() => /** @type {string[]} */ ([]));
  const name = files.find((file) => /^[0-9a-f]+\.json$/.test(file));
  return name === undefined ? null : JSON.parse(await readFile(path.join(folder, name), 'utf8'));
}

/** @param {{ steps: MeasuredStep[], report: any, losses: number[], jobsPerPass: number }} run */
function figuresOf({ steps, report, losses, jobsPerPass }) {
  const measured = steps.slice(Math.min(WARM_UP_STEPS, steps.length - 1));
  const seconds = median(measured.map((step) => step.seconds));
  const tokens = mean(measured.map((step) => step.tokens));
  const memory = engine.cuda?.memory();
  return {
    first_step_seconds: steps[0]?.seconds,
    seconds_per_step: seconds,
    tokens_per_step: tokens,
    tokens_per_second: tokens / seconds,
    jobs_per_pass: jobsPerPass,
    peak_memory_bytes: memory?.peakBytes ?? null,
    reserved_memory_bytes: memory?.reservedBytes ?? null,
    per_step: meanCounts(measured.map(({ counts }) => counts)),
    recompute: (report?.estimate?.recomputed_layers ?? 0) > 0,
    estimate: report?.estimate ?? null,
    losses,
    steps,
  };
}

/**
 * Every counter of the engine. They show what a card spends its time on otherwise: a wait for every op, or memory that is given back
 * again and again.
 *
 * @returns {Record<string, number>}
 */
function countsNow() {
  const counters = Object.entries(engine.cuda?.statistics() ?? {});
  return Object.fromEntries(counters.filter(([, count]) => typeof count === 'number'));
}

/** @param {Record<string, number>} after @param {Record<string, number>} before */
function difference(after, before) {
  return Object.fromEntries(Object.entries(after).map(([name, count]) => [name, count - (before[name] ?? 0)]));
}

/** @param {Record<string, number>[]} all @returns {Record<string, number>} */
export function meanCounts(all) {
  return Object.fromEntries(Object.keys(all[0] ?? {}).map((name) => [name, mean(all.map((one) => one[name] ?? 0))]));
}

/** @param {number[]} values */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? Number.NaN;
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
