// npm run demo: fine-tunes a real model through the HTTP API and shows the effect. With --open the service stays open.
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { bytesText, createClient, createJobProgress, reportText } from '../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { buildPage, runAsCommand } from '../../scripts/setup.mjs';
import { interruption, whenAborted } from '../../scripts/stack/interruption.mjs';
import { consoleReport, startStack } from '../../scripts/stack/start-stack.mjs';
import { answersOf, countRight, questionOf, readRows, rightAnswerOf } from './answers.mjs';

const EXAMPLE_DIR = path.join(ROOT_DIR, 'examples/dates');
const JOB_NAME = 'dates-demo';
const SHOWN_ROWS = 12;
const DATA_DIR = path.resolve(ROOT_DIR, process.env.DATA_DIR || 'data');
const STAYS_OPEN = process.argv.includes('--open');

/** @type {Omit<import('../../packages/client/dist/index.js').JobRequest, 'dataset'>} */
const JOB = {
  base_model: DEMO_MODEL_NAME,
  name: JOB_NAME,
  validation: { split: 0.05 },
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: { epochs: 1, batch_size: 8, learning_rate: 1e-3, warmup_ratio: 0.05, max_seq_length: 128 },
};

const say = (/** @type {string} */ text) => process.stdout.write(`${text}\n`);

await runAsCommand(async () => {
  const interrupted = interruption();
  try {
    await demo(interrupted);
    return 0;
  } catch (error) {
    if (interrupted.aborted) {
      say('\nInterrupted; an unfinished job is cancelled and the stack is stopped.');
      return 130;
    }
    if (error instanceof SetupError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new SetupError(
      `The demo failed: ${why}`,
      `see the logs in ${path.join(DATA_DIR, 'logs')}, then run it again.`,
      {
        cause: error,
      },
    );
  }
});

/** @param {AbortSignal} signal */
async function demo(signal) {
  const modelsDir = path.resolve(ROOT_DIR, process.env.MODELS_DIR || 'models');
  const outputDir = path.join(DATA_DIR, 'demo');
  // The data are for their user alone.
  await mkdir(outputDir, { recursive: true, mode: 0o700 });

  if (STAYS_OPEN) await buildPage();
  const stack = await startStack({ dataDir: DATA_DIR, modelsDir, signal, onEvent: consoleReport(process.stdout) });
  say(`api       ${stack.apiUrl}\n`);
  try {
    const ended = stack.failed.then((error) => Promise.reject(error));
    ended.catch(() => {}); // The stop below ends it, too.
    const manifest = await Promise.race([trainOverHttp(stack.apiUrl, outputDir, signal), ended]);
    if (!STAYS_OPEN) await stack.stop();
    await compareAnswers({ modelsDir, outputDir, weightsSha256: manifest.base_model.weights_sha256 });
    showFolders(modelsDir, outputDir);
    if (STAYS_OPEN) {
      say(`\nThe service stays open. Its page: ${stack.apiUrl}/\nCtrl-C stops it.`);
      await Promise.race([whenAborted(signal), ended]);
    } else {
      say(`
The job and its adapter are on the page of the service: run npm start, then open http://127.0.0.1:${process.env.API_PORT || 8080}/
npm run demo -- --open keeps the service of the demo open.`);
    }
  } finally {
    await stack.stop();
  }
}

/** @param {string} modelsDir @param {string} outputDir */
function showFolders(modelsDir, outputDir) {
  say(`
Adapter:      ${path.join(outputDir, 'adapter')}
Merged model: ${path.join(outputDir, 'merged')}

Both load in Python as they are:
  from peft import PeftModel
  from transformers import AutoModelForCausalLM
  base = AutoModelForCausalLM.from_pretrained("${path.join(modelsDir, DEMO_MODEL_NAME)}")
  model = PeftModel.from_pretrained(base, "${path.join(outputDir, 'adapter')}")
  merged = AutoModelForCausalLM.from_pretrained("${path.join(outputDir, 'merged')}")`);
}

/**
 * Uploads a dataset, plans and runs a job, and downloads its adapter, all through the public API.
 *
 * @param {string} baseUrl @param {string} outputDir @param {AbortSignal} signal
 */
async function trainOverHttp(baseUrl, outputDir, signal) {
  const client = createClient({ baseUrl, apiKey: process.env.LORASMITH_API_KEY || undefined });
  await cancelLeftovers(client);
  const file = path.join(EXAMPLE_DIR, 'train.jsonl');
  const dataset = await client.uploadDataset({ file }, { name: 'dates', signal });
  say(`Uploaded ${path.relative(ROOT_DIR, file)}: ${dataset.id}, ${dataset.rows} rows, ${bytesText(dataset.bytes)}`);
  const request = { ...JOB, dataset: dataset.id };
  say(`\nWhat the job will do (POST /jobs?dry_run=true):`);
  for (const line of reportText(await client.dryRun(request, { signal }))) say(`  ${line}`);

  const queued = await client.createJob(request, { signal });
  say(`\nPOST /jobs: ${queued.id}`);
  const progress = createJobProgress(process.stdout);
  const job = await client
    .waitForJob(queued.id, {
      signal,
      // The dry run has already shown the report.
      onEvent: (event) => event.type !== 'report-ready' && progress.handle(event),
    })
    .catch(async (error) => {
      // Otherwise it would continue when the next stack uses the same data.
      await client.cancelJob(queued.id).catch(() => {});
      throw error;
    })
    .finally(() => progress.end());
  if (job.adapter === null) throw new Error(`the job ${job.status}: ${job.error?.message ?? 'it has no adapter'}`);

  const manifest = await client.manifest(job.adapter, { signal });
  if (manifest.origin.kind !== 'trained')
    throw new Error(`the manifest of ${job.adapter} does not describe a training`);
  const { steps, tokens, seconds, first_loss, last_loss, peak_memory_bytes } = manifest.origin.result;
  say(
    `Trained ${steps} steps, ${tokens} tokens in ${Math.round(seconds)} s; loss ${first_loss.toFixed(3)} → ` +
      `${last_loss.toFixed(4)}; peak memory ${bytesText(peak_memory_bytes)}`,
  );
  for (const weights of /** @type {const} */ (['adapter', 'merged'])) {
    const folder = path.join(outputDir, weights);
    await client.downloadAdapter(job.adapter, { folder }, { weights, overwrite: true, signal });
    say(`Downloaded ${weights === 'adapter' ? 'the adapter' : 'the merged model'} to ${folder}`);
  }
  return manifest;
}

/** Otherwise jobs of a killed demo would be trained before this one. @param {import('../../packages/client/dist/index.js').Client} client */
async function cancelLeftovers(client) {
  for (const status of /** @type {const} */ (['queued', 'preparing', 'running'])) {
    for (const job of (await client.listJobs({ status, limit: 100 })).data) {
      if (job.name === JOB_NAME) await client.cancelJob(job.id);
    }
  }
}

/**
 * Compares the answers of the base model and of the merged model to the held-out rows.
 *
 * @param {{ modelsDir: string, outputDir: string, weightsSha256: string }} options
 * @throws {Error} when fewer than half of the merged model's answers are right
 */
async function compareAnswers({ modelsDir, outputDir, weightsSha256 }) {
  const rows = await readRows(path.join(EXAMPLE_DIR, 'heldout.jsonl'));
  const overwrite = (/** @type {string} */ text) => process.stdout.isTTY && process.stdout.write(`\r\x1b[2K${text}`);
  const ask = (/** @type {string} */ model, /** @type {string} */ name) =>
    answersOf({
      model,
      rows,
      folder: path.join(outputDir, name),
      onTick: (seconds) => overwrite(`${name}: ${seconds} s`),
    }).finally(() => overwrite(''));
  say(`\nAsking the base model and the merged one for ${rows.length} dates that are not in the training data …`);
  const baseModel = path.join(modelsDir, DEMO_MODEL_NAME);
  const before = await remembered(outputDir, [weightsSha256, rows], () => ask(baseModel, 'answers-before'));
  const after = await ask(path.join(outputDir, 'merged'), 'answers-after');

  const cells = rows
    .slice(0, SHOWN_ROWS)
    .map((row, index) => [questionOf(row), before[index] ?? '', after[index] ?? '']);
  const widths = [0, 1].map((column) => Math.max(6, ...cells.map((cell) => String(cell[column]).length)));
  const line = (/** @type {string[]} */ [question = '', first = '', second = '']) =>
    `${question.padEnd(widths[0] ?? 0)}  ${first.replace(/\s+/g, ' ').padEnd(widths[1] ?? 0)}  ${second}`;
  say(line(['asked', 'before', 'after']));
  for (const [index, cell] of cells.entries()) {
    say(`${line(cell)}${cell[2] === rightAnswerOf(rows[index] ?? { messages: [] }) ? '' : '  ✗'}`);
  }
  const [rightBefore, rightAfter] = [countRight(rows, before), countRight(rows, after)];
  const share = (/** @type {number} */ right) =>
    `${right} of ${rows.length} (${Math.round((100 * right) / rows.length)} %)`;
  say(`\nExactly right, greedy decoding: before ${share(rightBefore)}, after ${share(rightAfter)}`);
  if (rightAfter < rows.length / 2) throw new Error('less than half of the answers are right after training');
}

/**
 * Reads the answers that an earlier run stored, or generates them.
 *
 * @param {string} folder @param {unknown} key @param {() => Promise<string[]>} make
 * @returns {Promise<string[]>}
 */
async function remembered(folder, key, make) {
  const digest = createHash('sha256').update(JSON.stringify(key)).digest('hex');
  const file = path.join(folder, 'answers-before.json');
  try {
    const kept = JSON.parse(await readFile(file, 'utf8'));
    if (kept.digest === digest) return kept.answers;
  } catch {
    // Missing or incomplete: generated again.
  }
  const answers = await make();
  await writeFile(file, JSON.stringify({ digest, answers }));
  return answers;
}
