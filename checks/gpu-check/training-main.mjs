// Trains a base model on rows of one length, size by size, and writes seconds per step, peak memory and the estimate to RESULT_FILE.
// node training-main.mjs --model FOLDER --sizes 4x512,4x2048 --steps 8 [--data-dir FOLDER] [--precision bfloat16]
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { datasetOf } from '../../bench/rows.mjs';
import { openExampleStore } from '../../packages/planning/dist/index.js';
import { BaseModelCache, configureKernels, engine, PassScheduler } from '../../packages/training/dist/index.js';
import { prepareRun } from '../../packages/training/dist/prepare-run.js';
import { jobSpecOf } from '../../services/api/dist/jobs/job-spec.js';
import { writePartResult } from './part-result.mjs';
import { parseSizes, textRows } from './text-rows.mjs';

/** Steps that start threads, fill caches and choose products. */
const WARM_UP_STEPS = 2;
const RANK = 16;

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    sizes: { type: 'string', default: '4x512' },
    steps: { type: 'string', default: '8' },
    'data-dir': { type: 'string' },
    precision: { type: 'string', default: 'bfloat16' },
  },
});
const model = path.resolve(values.model);
const steps = Number(values.steps);
const machine = await measuredMachine(values['data-dir']);

const kernels = configureKernels('fused');
const cache = new BaseModelCache();
const startedAt = performance.now();
let loadedAt = 0;
/** @type {object[]} */
const sizes = [];
for (const size of parseSizes(values.sizes)) {
  sizes.push({ ...size, ...(await measured(size)) });
  const load_seconds = Math.max(0, loadedAt - startedAt) / 1e3;
  writePartResult({ lines: [], engine: engine.kind, kernels, model: path.basename(model), load_seconds, sizes });
}
cache.dispose();

/**
 * @param {{ rows: number, length: number }} size
 * @returns {Promise<object>} `error` where the size does not fit
 */
async function measured({ rows, length }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-gpu-check-'));
  const signal = new AbortController().signal;
  /** @type {any} */
  let prepared;
  try {
    const { text, dataset } = datasetOf(textRows({ rows: rows * steps, length }), 'text');
    const rowsFile = path.join(folder, 'rows.jsonl');
    await writeFile(rowsFile, text);
    const spec = jobSpecOf({
      base_model: path.basename(model),
      dataset: dataset.id,
      lora: { r: RANK, alpha: 2 * RANK, target_modules: 'all-linear' },
      training: {
        batch_size: rows,
        max_seq_length: length,
        on_overflow: 'truncate',
        precision: /** @type {any} */ (values.precision),
        learning_rate: 1e-4,
        epochs: 1,
      },
    });
    /** @type {any} */
    let report = null;
    /** @type {number[]} */
    const losses = [];
    /** @type {Parameters<typeof prepareRun>[0]} */
    const options = {
      spec,
      modelFolder: model,
      dataset,
      rowsFile,
      // The type check sees the sources of one package and the build of the other.
      examples: /** @type {any} */ (await openExampleStore({ dataDir: folder, maxBytes: 0 })),
      checkpointFolder: path.join(folder, 'checkpoints'),
      outputFolder: folder,
      initialAdapterFolder: null,
      machine,
      signal,
      cache,
      onEvent(event) {
        if (event.type === 'report-ready') report = event.data.report;
        if (event.type === 'step-finished') losses.push(event.data.loss);
      },
    };
    prepared = await prepareRun(options, new PassScheduler().join({ signal }));
    loadedAt ||= performance.now();
    engine.cuda?.resetPeakMemory();
    /** @type {number[]} */
    const seconds = [];
    let counted = { since: 0, before: engine.cuda?.statistics() };
    while (!prepared.run.isOver) {
      if (seconds.length <= WARM_UP_STEPS) counted = { since: seconds.length, before: engine.cuda?.statistics() };
      const start = performance.now();
      await prepared.run.step();
      seconds.push((performance.now() - start) / 1e3);
    }
    const median = seconds.slice(Math.min(WARM_UP_STEPS, seconds.length - 1)).sort((a, b) => a - b)[
      Math.floor(Math.max(0, seconds.length - WARM_UP_STEPS - 1) / 2)
    ];
    return {
      first_step_seconds: seconds[0],
      seconds_per_step: median,
      tokens_per_second: (rows * length) / (median ?? Number.NaN),
      peak_memory_bytes: engine.cuda?.memory().peakBytes ?? null,
      reserved_memory_bytes: engine.cuda?.memory().reservedBytes ?? null,
      per_step: perStep(counted.before, seconds.length - counted.since),
      recompute: (report?.estimate?.recomputed_layers ?? 0) > 0,
      estimate: report?.estimate ?? null,
      losses,
    };
  } catch (error) {
    // A size that the card has no memory for is a result.
    if (!/out of memory|OUT_OF_MEMORY|OOM/i.test(String(error))) process.exitCode = 1;
    return { error: error instanceof Error ? error.message.slice(0, 600) : String(error) };
  } finally {
    await prepared?.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * The measurements of a worker on this machine, on which estimates are based; null: no worker did.
 *
 * @param {string | undefined} dataDir its data folder
 */
async function measuredMachine(dataDir) {
  const folder = path.join(dataDir ?? '', 'machines');
  const files = await readdir(folder).catch(() => /** @type {string[]} */ ([]));
  const name = files.find((file) => /^[0-9a-f]+\.json$/.test(file));
  return name === undefined ? null : JSON.parse(await readFile(path.join(folder, name), 'utf8'));
}

/**
 * The counts of the engine, for each step. They show what a card spends its time on otherwise: a wait for every op, or memory that is
 * given back again and again.
 *
 * @param {import('../../packages/tensor/dist/cuda.js').CudaStatistics | undefined} before
 * @param {number} steps
 */
function perStep(before, steps) {
  const after = engine.cuda?.statistics();
  if (before === undefined || after === undefined) return null;
  const { launches, uploads, waits, memoryWaits, partialTrims, fullTrims, failedAllocations } = after;
  const counts = { launches, uploads, waits, memoryWaits, partialTrims, fullTrims, failedAllocations };
  return Object.fromEntries(
    Object.entries(counts).map(([name, count]) => [
      name,
      (count - before[/** @type {keyof typeof counts} */ (name)]) / steps,
    ]),
  );
}
