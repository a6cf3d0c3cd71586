// Trains jobs through the whole service, and writes what happened to RESULT_FILE.
// node service-main.mjs demo --engine cuda|cpu --model FOLDER --rows FILE.jsonl --data-dir FOLDER --precision float32|bfloat16 [--count N]
//   [--max-steps N] [--answers FILE.jsonl]: the demo's job, with losses, rate and memory.
// node service-main.mjs lost-card --model FOLDER --rows FILE.jsonl --data-dir FOLDER [--fault address|719] [--at-launch N]: breaks the card in
//   the middle of a job, twice: so that a new process can use it again, and so that none can. Looks whether the job is finished both times.
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { answersOf, countRight, readRows } from '../../../examples/dates/answers.mjs';
import { createClient } from '../../../packages/client/dist/index.js';
import { startStack } from '../../../scripts/stack/start-stack.mjs';
import { writePartResult } from './run-part.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    engine: { type: 'string', default: 'cuda' },
    model: { type: 'string', default: '' },
    rows: { type: 'string', default: '' },
    'data-dir': { type: 'string', default: '' },
    precision: { type: 'string', default: 'bfloat16' },
    count: { type: 'string' },
    'max-steps': { type: 'string' },
    answers: { type: 'string' },
    fault: { type: 'string', default: 'address' },
    'at-launch': { type: 'string', default: '2000' },
  },
});
const numberOf = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : Number(text));
const model = path.resolve(values.model);
const dataDir = path.resolve(values['data-dir']);
/** The output of the services. @type {string[]} */
const written = [];
const log = (/** @type {string} */ line) => {
  console.log(line);
  written.push(line);
};

/**
 * A job through the whole service, and what its events and its manifest say.
 *
 * @typedef {object} ServiceJob
 * @property {'succeeded' | 'failed' | 'cancelled' | string} status
 * @property {{ code: string, message: string } | null} error
 * @property {number} attempts
 * @property {{ step: number, loss: number }[]} steps with an event
 * @property {{ step: number, loss: number }[]} evaluations
 * @property {any} manifest null without an adapter
 */

/**
 * The job of `npm run demo`, by default with all its rows.
 *
 * @param {{ model: string, dataset: string, precision: 'float32' | 'bfloat16', maxSteps?: number | undefined }} options `model`: name of the base model
 * @returns {import('../../../packages/client/dist/index.js').JobRequest}
 */
function demoJob({ model, dataset, precision, maxSteps }) {
  return {
    base_model: model,
    name: 'gpu-check',
    dataset,
    validation: { split: 0.05 },
    lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
    training: {
      epochs: 1,
      batch_size: 8,
      learning_rate: 1e-3,
      warmup_ratio: 0.05,
      max_seq_length: 128,
      precision,
      ...(maxSteps === undefined ? {} : { max_steps: maxSteps }),
    },
  };
}

/**
 * Starts a stack of its own for `use`, and stops it afterwards.
 *
 * @template Result
 * @param {{ dataDir: string, model: string, env: NodeJS.ProcessEnv, log: (line: string) => void }} stack `model`: folder
 * @param {(stack: import('../../../scripts/stack/start-stack.mjs').Stack, client: import('../../../packages/client/dist/index.js').Client) => Promise<Result>} use
 * @returns {Promise<Result>} rejected when a part of the stack ends by itself
 */
async function withStack({ dataDir, model, env, log }, use) {
  const stack = await startStack({
    dataDir,
    modelsDir: path.dirname(path.resolve(model)),
    env,
    onEvent: (event) => log('state' in event ? `${event.part} ${event.state}` : `${event.part}: ${event.line}`),
  });
  const stop = () => void stack.stop().finally(() => process.exit(143));
  process.once('SIGTERM', stop);
  try {
    const ended = stack.failed.then((error) => Promise.reject(error));
    return await Promise.race([use(stack, createClient({ baseUrl: stack.apiUrl })), ended]);
  } finally {
    process.off('SIGTERM', stop);
    await stack.stop();
  }
}

/**
 * @param {import('../../../packages/client/dist/index.js').Client} client
 * @param {{ rows: string, count?: number | undefined }} options `rows`: JSONL file, of which the first `count` are taken
 * @returns {Promise<string>} the dataset's id
 */
async function uploadRows(client, { rows, count }) {
  const lines = (await readFile(rows, 'utf8')).trimEnd().split('\n').slice(0, count);
  const dataset = await client.uploadDataset({ text: `${lines.join('\n')}\n` }, { name: 'gpu-check' });
  return dataset.id;
}

/**
 * Follows a job to its end.
 *
 * @param {import('../../../packages/client/dist/index.js').Client} client
 * @param {string} id
 * @param {(job: Pick<ServiceJob, 'steps' | 'evaluations'>) => void} onProgress
 * @returns {Promise<ServiceJob>}
 */
async function followJob(client, id, onProgress = () => {}) {
  /** @type {ServiceJob['steps']} */
  const steps = [];
  /** @type {ServiceJob['evaluations']} */
  const evaluations = [];
  for await (const { type, data } of client.events(id)) {
    if (type === 'step-finished') {
      steps.push({ step: data.step, loss: data.loss });
    } else if (type === 'evaluation-finished') evaluations.push({ step: data.step, loss: data.loss });
    else continue;
    onProgress({ steps, evaluations });
  }
  const { status, error, attempts, adapter } = await client.getJob(id);
  const manifest = adapter === null ? null : await client.manifest(adapter);
  return { status, error, attempts, steps, evaluations, manifest };
}

/** Findings about the demo's job beside its events and its manifest. @type {Record<string, unknown>} */
const further = {};

/** Trains the demo's job, and lets its adapter answer. */
async function trainDemo() {
  /** @type {ServiceJob} */
  let job = { status: 'not started', error: null, attempts: 0, steps: [], evaluations: [], manifest: null };
  const merged = path.join(dataDir, 'gpu-check-merged');
  await withStack({ dataDir, model, env: process.env, log }, async (_, client) => {
    const dataset = await uploadRows(client, { rows: values.rows, count: numberOf(values.count) });
    const request = demoJob({
      model: path.basename(model),
      dataset,
      precision: values.precision === 'float32' ? 'float32' : 'bfloat16',
      maxSteps: numberOf(values['max-steps']),
    });
    const { id } = await client.createJob(request);
    job = await followJob(client, id, (progress) => save(Object.assign(job, progress, { status: 'running' })));
    save(job);
    if (job.manifest === null || values.answers === undefined) return;
    await client.downloadAdapter(job.manifest.id, { folder: merged }, { weights: 'merged', overwrite: true });
  });

  if (job.manifest !== null && values.answers !== undefined) {
    const rows = await readRows(values.answers);
    const startedAt = performance.now();
    const answers = await answersOf({ model: merged, rows, folder: path.join(dataDir, 'gpu-check-answers') });
    further.answers = {
      right: countRight(rows, answers),
      of: rows.length,
      seconds: (performance.now() - startedAt) / 1e3,
    };
    save(job);
  }
  process.exitCode = job.status === 'succeeded' && hasFallen(job.steps) ? 0 : 1;
}

/** @param {ServiceJob} job */
function save({ manifest, ...rest }) {
  const { losses, peak_memory_bytes, peak_device_memory_bytes, seconds, tokens } = manifest?.origin?.result ?? {};
  // Steps that follow each other quickly share an event. The manifest has all losses.
  rest.steps =
    losses?.map((/** @type {number} */ loss, /** @type {number} */ i) => ({ step: i + 1, loss })) ?? rest.steps;
  const result = manifest && { peak_memory_bytes, peak_device_memory_bytes, seconds, tokens };
  const [first, last] = [rest.steps[0], rest.steps.at(-1)];
  const right = /** @type {any} */ (further.answers);
  const lines = [
    `The job ${rest.status}${rest.error === null ? '' : ` (${rest.error.code}: ${rest.error.message})`}, ${rest.steps.length} steps` +
      (first && last ? `, loss ${first.loss.toFixed(4)} → ${last.loss.toFixed(4)}.` : '.'),
    ...(result
      ? [
          `${result.tokens} tokens in ${result.seconds.toFixed(1)} s: ${(result.tokens / result.seconds).toFixed(0)} tokens/s.`,
        ]
      : []),
    ...(right ? [`${right.right} of ${right.of} held-out answers are exactly right.`] : []),
  ];
  writePartResult({ lines, ...rest, ...further, result, versions: manifest?.origin?.versions ?? manifest?.versions });
}

/** @param {{ loss: number }[]} steps */
function hasFallen(steps) {
  const [first, last] = [steps[0], steps.at(-1)];
  return first !== undefined && last !== undefined && last.loss < first.loss;
}

/** Steps and rows of the jobs in which the card is lost. */
const MAX_STEPS = 4;
const ROWS = 48;
const library = path.join(dataDir, 'fault-at-launch.so');
const file = path.join(dataDir, 'fault-happened');
/** @type {string[]} */
const lines = [];
let isGood = true;

/** The worker's end of an attempt: a retry counts, and a job that is released has lost none. @param {string} id @param {string} outcome */
const hasOutcome = (id, outcome) =>
  written.some((line) => line.includes(`"job":"${id}"`) && line.includes(`"outcome":"${outcome}"`));

/** Breaks the card in a job in both ways. */
async function loseCard() {
  const source = path.join(import.meta.dirname ?? '', 'fault-at-launch.c');
  await promisify(execFile)(process.env.CC || 'gcc', ['-O1', '-shared', '-fPIC', source, '-o', library, '-ldl']);

  // A worker tests and measures a card at its first start. Those processes must not be the ones that meet the fault.
  if ((await readdir(path.join(dataDir, 'machines')).catch(() => [])).length === 0) {
    await withStack({ dataDir, model, env: process.env, log }, async (_, client) => {
      await followJob(client, await createJob(client));
    });
  }

  const crash = await underFault(values.fault);
  check(crash.isBroken, `A launch was broken in a job (${values.fault}); a new process can use the card.`);
  check(crash.ended === 'the job succeeded', `The same worker finishes the job: ${crash.ended}.`);
  check(hasOutcome(crash.id, 'retry'), 'The crash counts as an attempt.');

  const gone = await underFault('gone');
  check(gone.isBroken, 'A launch was broken in a job; no new process finds the card.');
  check(/worker exited with 69/.test(gone.ended), `The worker ends with 69: ${gone.ended}.`);
  const job = await withStack({ dataDir, model, env: process.env, log }, (_, client) => followJob(client, gone.id));
  check(job.status === 'succeeded', `The next worker finishes the job: ${job.status} ${job.error?.message ?? ''}`);
  check(hasOutcome(gone.id, 'released'), 'The attempt on the lost card is not counted: the job was released.');
  process.exitCode = isGood ? 0 : 1;
}

/** @param {import('../../../packages/client/dist/index.js').Client} client */
async function createJob(client) {
  const dataset = await uploadRows(client, { rows: values.rows, count: ROWS });
  return (
    await client.createJob(
      demoJob({ model: path.basename(model), dataset, precision: 'bfloat16', maxSteps: MAX_STEPS }),
    )
  ).id;
}

/**
 * Runs a job in a stack whose engine meets the fault.
 *
 * @param {string} fault see fault-at-launch.c
 */
async function underFault(fault) {
  await rm(file, { force: true });
  const env = {
    ...process.env,
    LD_PRELOAD: library,
    FAULT: fault,
    FAULT_FILE: file,
    FAULT_AT_LAUNCH: values['at-launch'],
  };
  let id = '';
  const ended = await withStack({ dataDir, model, env, log }, async (_, client) => {
    id = await createJob(client);
    const job = await followJob(client, id);
    return `the job ${job.status}${job.error === null ? '' : `: ${job.error.message}`}`;
  }).catch((error) => String(error.message));
  const isBroken = (await readdir(dataDir)).includes(path.basename(file));
  return { id, ended, isBroken };
}

/** @param {boolean} holds @param {string} text */
function check(holds, text) {
  isGood &&= holds;
  lines.push(`- ${holds ? 'yes' : '**no**'}: ${text}`);
  writePartResult({ lines });
}

await mkdir(dataDir, { recursive: true });
await (positionals[0] === 'lost-card' ? loseCard() : trainDemo());
