import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, model, options, quick, repeats, say } from '../harness.mjs';
import { SHAPES, writeRandomModel } from '../random-model.mjs';
import { gigabytes, percent, table } from '../tables.mjs';

/** The estimates of dry_run against measurements of real jobs; with --shape, of one job on a model of that shape in 4 bits. */
export async function estimate() {
  const shape = shapeNamed(options.shape);
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-estimate-'));
  try {
    const write = async (/** @type {keyof typeof SHAPES} */ name) => {
      const folder = path.join(scratch, `llama-${name}`);
      await writeRandomModel(folder, { family: 'llama', shape: SHAPES[name], tokenizerFrom: model });
      return folder;
    };
    const jobs = shape === null ? await estimateJobs({ rows: options.rows, write }) : [await jobOfShape(shape, write)];
    const rows = [];
    for (const { name, ...job } of jobs) rows.push({ name, ...(await medianRound(job, quick ? 1 : 3)) });
    say('Estimates of dry_run, and measurements of the job.');
    say(estimateTable(rows));
    return { rows };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/**
 * @param {string | undefined} name
 * @returns {keyof typeof SHAPES | null}
 */
function shapeNamed(name) {
  if (name === undefined) return null;
  if (name in SHAPES) return /** @type {keyof typeof SHAPES} */ (name);
  throw new Error(`there is no shape ${name}. The shapes are ${Object.keys(SHAPES).join(', ')}`);
}

/**
 * A training that is compared with its estimate: options of train.mjs.
 *
 * @typedef {Parameters<typeof import('../parts/train.mjs').train>[0]} Training
 * @typedef {Omit<Training, 'model' | 'machine'> & { name: string, model?: string }} EstimatedJob `model`: another than that of all parts
 * @typedef {keyof typeof import('../random-model.mjs').SHAPES} ShapeName
 */

/** Prompts of samples: texts to continue, and chats as in examples/dates, whose answers are short once they are learned. */
const TEXTS = ['the time of water', 'people in the green house', 'light is', 'and the house of people'];

const DATES = ['May the 3rd, 1999', '12 June 2001'].map((content) => [
  { role: 'system', content: 'Write the date in ISO format.' },
  { role: 'user', content },
]);

/** @type {EstimatedJob[]} */
const ON_THE_MODEL = [
  { name: 'q,v, short rows', text: { rows: 64, words: 60 }, training: { batch_size: 8 } },
  { name: 'q,v, float32', text: { rows: 16, words: 120 }, training: { precision: 'float32', batch_size: 4 } },
  { name: 'all-linear', text: { rows: 24, words: 200 }, targets: 'all-linear', training: { batch_size: 4 } },
  { name: 'long rows', text: { rows: 6, words: 1000 }, training: { batch_size: 2 } },
  { name: 'large batch', text: { rows: 96, words: 100 }, training: { batch_size: 32 } },
  { name: 'recompute', text: { rows: 24, words: 400 }, training: { batch_size: 8, recompute: 'always' } },
  {
    name: 'accumulation',
    text: { rows: 64, words: 60 },
    training: { batch_size: 2, gradient_accumulation_steps: 8 },
  },
  {
    name: 'evaluation',
    text: { rows: 64, words: 60 },
    validation: { split: 0.25 },
    training: { batch_size: 8, eval_every_steps: 2 },
  },
  {
    name: 'samples',
    text: { rows: 64, words: 60 },
    samples: { prompts: TEXTS, every_steps: 3, max_tokens: 64 },
    training: { batch_size: 8 },
  },
  { name: 'one step', text: { rows: 64, words: 60 }, training: { batch_size: 8, max_steps: 1 } },
  { name: 'three steps', text: { rows: 64, words: 60 }, training: { batch_size: 8, max_steps: 3 } },
];

const NF4 = { base_quantization: 'nf4' };

/**
 * @param {{ rows: string, write: (shape: ShapeName) => Promise<string> }} options
 * @returns {Promise<EstimatedJob[]>} those of the model in bfloat16 first, then with weights in 4 bits, of three models
 */
async function estimateJobs({ rows, write }) {
  const both = {
    validation: { split: 0.25 },
    samples: { prompts: DATES, every_steps: 4, max_tokens: 64 },
  };
  const chats = { rows, count: 64, ...both, training: { batch_size: 4, eval_every_steps: 4 } };
  return inBfloat16([
    ...ON_THE_MODEL,
    { name: 'chats, evaluation and samples', ...chats },
    { name: 'nf4, chats, evaluation and samples', ...chats, training: { ...chats.training, ...NF4 } },
    { name: 'nf4', ...LINEAR },
    { name: 'nf4, 334M', model: await write('334m'), ...LINEAR },
    { name: 'nf4, 1.07B', model: await write('1b'), ...LINEAR },
  ]);
}

const LINEAR = {
  text: { rows: 8, words: 200 },
  targets: 'all-linear',
  rank: 16,
  training: { batch_size: 2, ...NF4 },
};

/**
 * Three steps of 4 rows of 512 tokens in 4 bits.
 *
 * @param {ShapeName} shape
 * @param {(shape: ShapeName) => Promise<string>} write
 * @returns {Promise<EstimatedJob>}
 */
async function jobOfShape(shape, write) {
  const training = { batch_size: 4, max_steps: 3, max_seq_length: 512, ...NF4 };
  const job = { ...LINEAR, name: `nf4, ${shape}`, model: await write(shape), text: { rows: 12, words: 512 }, training };
  return /** @type {EstimatedJob} */ (inBfloat16([job])[0]);
}

/** @param {EstimatedJob[]} jobs */
function inBfloat16(jobs) {
  return jobs.map((job) => ({ ...job, training: { precision: 'bfloat16', ...job.training } }));
}

/** @param {any[]} rows each the result of train.mjs, with the job's name */
function estimateTable(rows) {
  const columns = [
    'memory expected',
    'memory',
    'error',
    's/step expected',
    's/step',
    'error',
    's expected',
    's',
    'error',
  ];
  return table(
    ['job', ...columns],
    rows.map(({ name, estimate, peak_rss_bytes: peak, seconds_per_step: perStep, seconds }) => {
      const { peak_memory_bytes: memory, seconds_per_step: step, total_seconds: total } = estimate;
      return [
        ...[name, gigabytes(memory), gigabytes(peak), percent(memory / peak - 1)],
        ...[step.toFixed(2), perStep.toFixed(2), percent(step / perStep - 1)],
        ...[total.toFixed(2), seconds.toFixed(2), percent(total / seconds - 1)],
      ];
    }),
  );
}

/**
 * A job with its estimate: of some rounds that measure the machine and then train, the one with the median error. A machine that
 * others share can change its speed between two rounds.
 *
 * @param {object} job @param {number} rounds odd
 */
async function medianRound(job, rounds) {
  const engine = { kind: 'cpu', card: null, self_test: null };
  const results = [];
  for (let round = 0; round < rounds; round++) {
    const { profile } = await measured('machine', { precision: 'bfloat16', rows: 4, length: 128, repeats: 1 });
    const machine = { ...profile, worker: 'bench', measured_at: new Date().toISOString(), engine };
    results.push(await measured('train', { ...job, machine }));
  }
  const errorOf = (/** @type {any} */ result) => result.estimate.total_seconds / result.seconds;
  results.sort((a, b) => errorOf(a) - errorOf(b));
  return { ...results[(rounds - 1) / 2], errors: results.map(errorOf) };
}

/** A mixture of experts, on a `--model` that is one: its share of the machine and its estimates, with adapters of attention and of all experts. */
export async function experts() {
  const results = [];
  for (const precision of /** @type {const} */ (['bfloat16', 'float32'])) {
    for (const adapted of /** @type {const} */ (['attention', 'experts'])) {
      const size = { precision, rows: 8, length: 256, adapted, repeats };
      results.push({ precision, adapted, ...(await measured('machine', size)) });
    }
  }
  say(`Experts: a step of ${results[0]?.tokens} tokens, and products of its own shapes with no work between them.`);
  say(
    table(
      ['precision', 'adapted', 'tokens/s', 'model, GFLOP/s', 'our own products, GFLOP/s', 'share'],
      results.map((result) => [
        result.precision,
        result.adapted === 'experts' ? 'all experts' : 'q and v',
        result.tokens_per_second.toFixed(0),
        result.model_gflops_per_second.toFixed(0),
        result.matmul_gflops_per_second.own.toFixed(0),
        percent(result.share.own),
      ]),
    ),
  );
  const jobs = [];
  for (const { name, parameters } of [
    { name: 'q,v' },
    { name: 'q,v and all experts', parameters: ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'] },
  ]) {
    const training = { precision: 'bfloat16', batch_size: 8, max_seq_length: 256 };
    const job = { text: { rows: 24, words: 256 }, training, parameters };
    jobs.push({ name, ...(await medianRound(job, 1)) });
  }
  say('Estimates of such jobs, and measurements.');
  say(estimateTable(jobs));
  return { steps: results, jobs };
}
