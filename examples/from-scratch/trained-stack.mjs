// A stack 128 → 256 → ReLU → 10, trained through the HTTP API of a service that runs for this alone.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient } from '../../packages/client/dist/index.js';
import { readModelFolder } from '../../packages/model-folder/dist/index.js';
import { LoraAdapter, loadClassifier } from '../../packages/models/dist/index.js';
import { readPeftFolder } from '../../packages/peft-files/dist/index.js';
import { SeededRandom } from '../../packages/seeded-random/dist/index.js';
import { scope } from '../../packages/tensor/dist/index.js';
import { openSafetensors } from '../../packages/weight-files/dist/index.js';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { adapterFor, kernels, rowsOf } from './layers.mjs';
import { randomWeights, writeStack } from './stack-folder.mjs';

const WIDTHS = [128, 256, 10];
const [FEATURES = 0, , CLASSES = 0] = WIDTHS;
const NAME = 'stack-128-256-10';
const SEED = 7;
const [TRAINING_ROWS, TEST_ROWS] = [600, 200];

/** @typedef {{ features: number[], label: number }} Row */

/**
 * @param {{ signal?: AbortSignal, say?: (text: string) => void }} [options] `say` receives what the service does
 */
export async function trainedStack({ signal, say = () => {} } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-from-scratch-'));
  const [dataDir, modelsDir] = [path.join(folder, 'data'), path.join(folder, 'models')];
  /** @type {Awaited<ReturnType<typeof startStack>> | undefined} */
  let stack;
  try {
    await mkdir(dataDir);
    const base = path.join(modelsDir, NAME);
    await writeStack(base, WIDTHS, randomWeights(WIDTHS, SEED));
    const initial = await initialAdapter(base);
    const digestBefore = await digestOf(base);
    say('starting a service …');
    // A Redis of its own: this data is nobody else's.
    const env = { ...process.env, REDIS_URL: undefined };
    stack = await startStack({ dataDir, modelsDir, env, ...(signal ? { signal } : {}) });
    const { job, training } = await trainOverHttp(stack.apiUrl, folder, say, signal);
    return {
      ...job,
      initial,
      ...training,
      baseIsUnchanged: (await digestOf(base)) === digestBefore,
      sameTensors: await haveSameTensors(base, path.join(folder, 'merged')),
      ...(await compare(base, folder)),
    };
  } finally {
    await stack?.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string} baseUrl @param {string} folder @param {(text: string) => void} say @param {AbortSignal | undefined} signal
 */
async function trainOverHttp(baseUrl, folder, say, signal) {
  const client = createClient({ baseUrl });
  const rows = exampleRows(TRAINING_ROWS, 'training');
  const dataset = await client.uploadDataset({ text: rows.map((row) => JSON.stringify(row)).join('\n') }, { signal });
  /** @satisfies {import('../../packages/client/dist/index.js').JobRequest} */
  const request = {
    base_model: NAME,
    dataset: dataset.id,
    validation: { split: 0.2 },
    lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
    training: { epochs: 10, batch_size: 32, learning_rate: 5e-3, precision: /** @type {const} */ ('float32') },
  };
  const report = await client.dryRun(request, { signal });
  const { id } = await client.createJob(request, { signal });
  say(`training ${report.parameters.trained} numbers in ${report.steps.total} steps: ${id} …`);
  /** @type {{ loss: number, accuracy: number }[]} */
  const evaluations = [];
  const job = await client.waitForJob(id, {
    signal,
    onEvent: (event) => {
      if (event.type === 'evaluation-finished') evaluations.push(event.data);
    },
  });
  if (job.adapter === null) throw new Error(`the job ${job.status}: ${job.error?.message ?? 'it has no adapter'}`);
  for (const weights of /** @type {const} */ (['adapter', 'merged'])) {
    await client.downloadAdapter(job.adapter, { folder: path.join(folder, weights) }, { weights, signal });
  }
  const { origin } = await client.manifest(job.adapter, { signal });
  if (origin.kind !== 'trained') throw new Error(`${job.adapter} is not of this training`);
  const { seconds, first_loss: firstLoss, last_loss: lastLoss } = origin.result;
  const { modules, trained, total } = report.parameters;
  return {
    job: { modules, trained, total, steps: report.steps.total },
    training: {
      seconds,
      loss: { first: firstLoss, last: lastLoss },
      heldOut: { before: evaluations[0]?.accuracy ?? null, after: evaluations.at(-1)?.accuracy ?? null },
    },
  };
}

/**
 * Rows of ten kinds: a point of the kind, and noise. A model that knows the ten points gets nearly all of them right.
 *
 * @param {number} count @param {string} purpose rows for another purpose have other noise
 * @returns {Row[]}
 */
function exampleRows(count, purpose) {
  const points = Array.from({ length: CLASSES }, (_, label) => uniform(FEATURES, 1, `point ${label}`));
  return Array.from({ length: count }, (_, row) => {
    const label = row % CLASSES;
    const noise = uniform(FEATURES, 2, `${purpose} ${row}`);
    return { features: noise.map((value, i) => Number((value + (points[label]?.[i] ?? 0)).toFixed(4))), label };
  });
}

/** @param {number} count @param {number} bound @param {string} stream */
function uniform(count, bound, stream) {
  const values = new Float32Array(count);
  new SeededRandom(SEED, stream).fillUniform(values, bound);
  return [...values];
}

/** The adapter before training, and whether the model with it is the base model. @param {string} base */
async function initialAdapter(base) {
  const model = await loadClassifier(await readModelFolder(base), 'float32', kernels);
  const targets = model.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 8, scale: 2 })));
  const adapter = new LoraAdapter(model.groups, { targets, dropout: 0, seed: SEED });
  try {
    const modules = [...adapter.toPeft(null).modules.values()];
    const rows = exampleRows(TEST_ROWS, 'test');
    const logits = logitsOf(model, rows);
    return {
      numbers: adapter.parameterCount,
      /** The largest number of A by 1/√in, the bound of Kaiming-uniform with a = √5. */
      largestA: Math.max(...modules.map(({ a, inFeatures }) => largest(a) * Math.sqrt(inFeatures))),
      largestB: Math.max(...modules.map(({ b }) => largest(b))),
      difference: greatestDifference(logitsOf(model, rows, adapter), logits),
    };
  } finally {
    adapter.dispose();
    model.dispose();
  }
}

/** The base model, the base model with the adapter, and the merged model on rows that no training has seen. */
async function compare(/** @type {string} */ baseFolder, /** @type {string} */ folder) {
  const rows = exampleRows(TEST_ROWS, 'test');
  const peft = await readPeftFolder(path.join(folder, 'adapter'));
  const base = await loadClassifier(await readModelFolder(baseFolder), 'float32', kernels);
  const merged = await loadClassifier(await readModelFolder(path.join(folder, 'merged')), 'float32', kernels);
  const adapter = adapterFor(base.groups, peft);
  try {
    const [before, unmerged, after] = [logitsOf(base, rows), logitsOf(base, rows, adapter), logitsOf(merged, rows)];
    const right = (/** @type {number[][]} */ logits) =>
      rows.filter(({ label }, row) => answerOf(logits[row]) === label).length;
    return {
      adapterNumbers: adapter.parameterCount,
      test: { rows: rows.length, before: right(before), unmerged: right(unmerged), merged: right(after) },
      sameAnswers: rows.every((_, row) => answerOf(unmerged[row]) === answerOf(after[row])),
      mergedDifference: greatestDifference(unmerged, after),
      largestLogit: Math.max(...unmerged.map(largest)),
    };
  } finally {
    adapter.dispose();
    base.dispose();
    merged.dispose();
  }
}

/**
 * @param {import('../../packages/models/dist/index.js').Classifier} model @param {Row[]} rows @param {LoraAdapter} [adapter]
 * @returns {number[][]} `[rows, classes]`
 */
function logitsOf(model, rows, adapter) {
  const features = Float32Array.from(rows.flatMap((row) => row.features));
  return scope(() => rowsOf(model.logits({ features, width: FEATURES }, adapter ? [{ adapter }] : [])));
}

/** @param {number[]} [logits] @returns {number} the class with the highest score */
const answerOf = (logits = []) => logits.indexOf(Math.max(...logits));

/** @param {ArrayLike<number>} numbers */
const largest = (numbers) => Math.max(...Array.from(numbers, Math.abs));

/** @param {number[][]} one @param {number[][]} other */
const greatestDifference = (one, other) =>
  largest(one.flatMap((row, i) => row.map((value, j) => value - (other[i]?.[j] ?? Number.NaN))));

/** @param {string} folder */
async function digestOf(folder) {
  return createHash('sha256')
    .update(await readFile(path.join(folder, 'model.safetensors')))
    .digest('hex');
}

/** True if two models have the same tensors, so that one computes as fast as the other. */
async function haveSameTensors(/** @type {string} */ one, /** @type {string} */ other) {
  const [shapes, others] = await Promise.all([one, other].map(shapesOf));
  return shapes === others;
}

/** @param {string} folder */
async function shapesOf(folder) {
  const file = await openSafetensors(path.join(folder, 'model.safetensors'));
  try {
    return JSON.stringify([...file.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape })));
  } finally {
    await file.close();
  }
}
