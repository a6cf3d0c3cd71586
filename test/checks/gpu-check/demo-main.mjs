// Trains the demo's job through the whole service, and writes losses, rate and memory to RESULT_FILE.
// node demo-main.mjs --engine cuda|cpu --model FOLDER --rows FILE.jsonl --data-dir FOLDER --precision float32|bfloat16 [--count N] [--max-steps N] [--answers FILE.jsonl]
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { answersOf, countRight, readRows } from '../../../examples/dates/answers.mjs';
import { writePartResult } from './run-part.mjs';
import { demoJob, followJob, uploadRows, withStack } from './service-job.mjs';

const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'cuda' },
    model: { type: 'string', default: '' },
    rows: { type: 'string', default: '' },
    'data-dir': { type: 'string', default: '' },
    precision: { type: 'string', default: 'bfloat16' },
    count: { type: 'string' },
    'max-steps': { type: 'string' },
    answers: { type: 'string' },
  },
});
const numberOf = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : Number(text));
const { model } = values;
const dataDir = path.resolve(values['data-dir']);
const log = (/** @type {string} */ line) => console.log(line);

/** @type {import('./service-job.mjs').ServiceJob} */
let job = { status: 'not started', error: null, attempts: 0, steps: [], evaluations: [], manifest: null };
/** @type {Record<string, unknown>} */
const further = {};

await mkdir(dataDir, { recursive: true });
const merged = path.join(dataDir, 'gpu-check-merged');
await withStack({ dataDir, model, env: process.env, log }, async (_, client) => {
  const dataset = await uploadRows(client, { rows: values.rows, count: numberOf(values.count) });
  const request = demoJob({
    model: path.basename(path.resolve(model)),
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

/** @param {import('./service-job.mjs').ServiceJob} job */
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
