// A process that trains jobs of some checkout on one base model, which it keeps: benches/jobs.mjs forks one for each checkout and
// gives it work by turns.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { datasetOf } from './rows.mjs';

/**
 * @typedef {object} Work
 * @property {number} jobs
 * @property {number} tokens of a step: one row
 * @property {string[] | string} targets
 * @property {number[]} ranks the first job has the first of them, and so on, again from the start
 * @property {number} steps of each job; the first is not measured
 * @property {'none' | 'nf4'} [quantization] of the base model
 *
 * @typedef {object} Measured
 * @property {number} tokensPerSecond
 * @property {number} stepSeconds a step of all jobs
 * @property {number} peakBytes of the process so far
 */

const [root = '', model = '', folder = ''] = process.argv.slice(2);
/** @param {string} name */
const load = (name) => import(pathToFileURL(path.join(root, `packages/${name}/dist/index.js`)).href);
const tensor = await load('tensor');
const { LoraSettings, TrainingSettings } = await load('contracts');
const { openExampleStore } = await load('planning');
const training = await load('training');

/** The kernels; null in a checkout where they are chosen for the process. */
const kernels = tensor.chooseKernels === undefined ? null : tensor.chooseKernels('fused');
if (kernels === null) tensor.configureKernels('fused');
const cache = new training.BaseModelCache(kernels);
/** The scheduler of shared passes; null in a checkout whose jobs train one after the other. */
const scheduler = training.PassScheduler === undefined ? null : new training.PassScheduler({ passTokens: 1024 });

const answer = async (/** @type {Work} */ work) => void process.send?.(await trainAll(work));
process.on('message', (/** @type {Work} */ work) => void answer(work));
process.send?.('ready');

/** @param {Work} work @returns {Promise<Measured>} */
async function trainAll(work) {
  const jobs = Array.from({ length: work.jobs }, (_, index) => index);
  /** @type {number[][]} */
  const ends = jobs.map(() => []);
  const train = (/** @type {number} */ job) => trainOne(work, job, () => ends[job]?.push(performance.now()));
  if (scheduler === null) for (const job of jobs) await train(job);
  else await Promise.all(jobs.map(train));

  const measuredSteps = work.steps - 1;
  let seconds = 0;
  let steps = 0;
  if (scheduler === null) {
    // Without what lies between two jobs, which is not training.
    seconds = sum(ends.map((own) => ((own.at(-1) ?? 0) - (own[0] ?? 0)) / 1e3));
    steps = work.jobs * measuredSteps;
  } else {
    // Only the time in which all of them train.
    const from = Math.max(...ends.map((own) => own[0] ?? 0));
    const to = Math.min(...ends.map((own) => own.at(-1) ?? 0));
    seconds = (to - from) / 1e3;
    steps = sum(ends.map((own) => own.filter((end) => end > from && end <= to).length));
  }
  return {
    tokensPerSecond: (steps * work.tokens) / seconds,
    stepSeconds: (seconds * work.jobs) / steps,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** @param {Work} work @param {number} job @param {() => void} onStep */
async function trainOne({ tokens, targets, ranks, steps, quantization = 'none' }, job, onStep) {
  const { text, dataset } = datasetOf(rowsOf(tokens, steps, job), 'prompt_completion');
  const own = path.join(folder, String(job));
  await mkdir(own, { recursive: true });
  const rowsFile = path.join(own, 'rows.jsonl');
  await writeFile(rowsFile, text);
  const rank = ranks[job % ranks.length] ?? 8;
  const training_ = { ...defaultsOf(TrainingSettings), epochs: 1, batch_size: 1, checkpoint_every_steps: null };
  const ended = new AbortController();
  let done = 0;
  try {
    await training.train({
      spec: {
        base_model: path.basename(model),
        dataset: dataset.id,
        priority: 'normal',
        validation: { split: 0, dataset: null },
        lora: { ...defaultsOf(LoraSettings), r: rank, alpha: 2 * rank, target_modules: targets },
        training: { ...training_, precision: 'bfloat16', base_quantization: quantization, seed: job },
        samples: null,
        name: null,
        metadata: {},
        webhook: null,
      },
      modelFolder: model,
      dataset,
      rowsFile,
      examples: await openExampleStore({ dataDir: own, maxBytes: 0 }),
      checkpointFolder: path.join(own, 'checkpoints'),
      outputFolder: own,
      initialAdapterFolder: null,
      machine: null,
      signal: ended.signal,
      cache,
      ...(scheduler === null ? {} : { scheduler, share: { key: 'bench', keyWeight: 1, jobWeight: 1 } }),
      onEvent: (/** @type {any} */ { type, data }) => {
        if (type === 'report-ready') requireTokens(data.report, tokens);
        if (type !== 'step-finished') return;
        onStep();
        done += 1;
        // Nothing is published.
        if (done === steps) ended.abort('cancel');
      },
    });
  } catch (error) {
    if (done < steps) throw error;
  } finally {
    await rm(own, { recursive: true });
  }
}

/**
 * Rows of so many tokens, about half of them with a loss.
 *
 * @param {number} tokens @param {number} count @param {number} seed
 */
function rowsOf(tokens, count, seed) {
  const words = (/** @type {number} */ first, /** @type {number} */ howMany) =>
    Array.from({ length: howMany }, (_, i) => ` ${WORDS[(first * 7 + i * 3 + seed) % WORDS.length]}`).join('');
  const completion = Math.floor(tokens / 2) - ENDS;
  return Array.from({ length: count }, (_, row) => ({
    prompt: words(row, tokens - completion - AROUND),
    completion: words(row + 1, completion),
  }));
}

/** Tokens that the demo model's chat template puts around prompt and completion, and those of them that have a loss. */
const [AROUND, ENDS] = [32, 2];

/** Each word, with the space before it, is one token of the demo model's vocabulary. */
const WORDS = ['the', 'time', 'of', 'water', 'and', 'light', 'in', 'house', 'is', 'green', 'to', 'people'];

/** Another model has another template. @param {any} report @param {number} tokens */
function requireTokens({ rows, tokens: found }, tokens) {
  if (found.per_epoch === rows.training * tokens) return;
  throw new Error(`a row has ${found.per_epoch / rows.training} tokens instead of ${tokens}`);
}

/** @param {number[]} values */
function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

/** @param {{ properties: object }} schema */
function defaultsOf({ properties }) {
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, property]) => ('default' in property ? [[name, property.default]] : [])),
  );
}
