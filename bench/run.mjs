// npm run bench -- [--rows FILE.jsonl] [--count 64] [--model FOLDER] [--peer-python PYTHON] [--quick] [--only NAMES] [--shape NAME] [--out FILE.json]
// Prints tables, and writes everything as JSON when --out is given. bench/README.md says what is measured and how.
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { trainerEnvironment } from '../services/worker/dist/trainer/trainer-environment.js';
import { around as aroundTraining, copyWithDigest, writeChats } from './parts/around.mjs';
import { estimateJobs, estimateTable, jobOfShape } from './parts/estimate-jobs.mjs';
import { fairness as fairnessOfKeys } from './parts/fairness.mjs';
import { fleet as fleetOfWorkers } from './parts/fleet.mjs';
import { trainedTogether, wholeJobs } from './parts/jobs.mjs';
import { lists as listsOfAdapters } from './parts/lists.mjs';
import { sweeps as sweepsOfVariants } from './parts/sweeps.mjs';
import { SHAPES, writeRandomModel } from './random-model.mjs';
import { readBenchRows } from './rows.mjs';
import { gigabytes, percent, table } from './tables.mjs';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname ?? '.', '..');
/** Ops of linear attention beside its products and norms. */
const LINEAR_ATTENTION_OPS = /CausalConvolution|GatedDelta/;
const BENCHES = {
  speed,
  share,
  growth,
  estimate,
  loading,
  profile,
  around,
  jobs,
  fairness,
  sweeps,
  quantized,
  optimizers,
  preferences,
  rewards,
  delta,
  experts,
  fleet,
  lists,
};
/** Only with --only: the parts for models that have something of their own, and those that take long. */
const WHEN_NAMED = ['delta', 'experts', 'fleet', 'lists'];

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: path.join(ROOT, 'examples/dates/train.jsonl') },
    count: { type: 'string', default: '64' },
    model: { type: 'string', default: path.join(ROOT, 'models/SmolLM2-135M-Instruct') },
    'peer-python': { type: 'string' },
    'large-model': { type: 'string' },
    before: { type: 'string' },
    shape: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: {
      type: 'string',
      default: Object.keys(BENCHES)
        .filter((name) => !WHEN_NAMED.includes(name))
        .join(','),
    },
    out: { type: 'string' },
  },
});
const { quick } = values;
const model = path.resolve(values.model);
const count = quick ? 16 : Number(values.count);
const repeats = quick ? 2 : 4;
const shape = shapeNamed(values.shape);

const results = {
  machine: `${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${gigabytes(totalmem())}`,
  node: process.versions.node,
  model: path.basename(model),
};
say(`${results.machine}, Node ${results.node}, ${results.model}\n`);
for (const name of values.only.split(',')) {
  const bench = BENCHES[/** @type {keyof typeof BENCHES} */ (name)];
  if (bench === undefined)
    throw new Error(`there is no part ${name}. The parts are ${Object.keys(BENCHES).join(', ')}`);
  Object.assign(results, { [name]: await bench() });
}
if (values.out !== undefined) await writeFile(values.out, `${JSON.stringify(results, null, 2)}\n`);

/**
 * @param {string | undefined} name
 * @returns {keyof typeof SHAPES | null}
 */
function shapeNamed(name) {
  if (name === undefined) return null;
  if (name in SHAPES) return /** @type {keyof typeof SHAPES} */ (name);
  throw new Error(`there is no shape ${name}. The shapes are ${Object.keys(SHAPES).join(', ')}`);
}

/** @param {string} text */
function say(text) {
  process.stdout.write(`${text}\n`);
}

/**
 * Measures one part in its own process, with the environment of a trainer.
 *
 * @param {string} part
 * @param {object} options
 * @param {string} root the checkout that is measured
 * @returns {Promise<any>}
 */
async function measured(part, options, root = ROOT) {
  const child = fork(path.join(root, 'bench/measure.mjs'), [], {
    env: trainerEnvironment(process.env),
    serialization: 'advanced',
  });
  child.send({ part, options: { model, ...options } });
  const exited = once(child, 'exit').then(([code]) => {
    throw new Error(`the part ${part} ended with exit code ${code}`);
  });
  exited.catch(() => {});
  const [result] = await Promise.race([once(child, 'message'), exited]);
  return result;
}

/** @param {string} script @param {string[]} parameters */
async function peer(script, parameters) {
  const python = /** @type {string} */ (values['peer-python']);
  const { stdout } = await run(python, [path.join(ROOT, 'bench', script), ...parameters], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}

/**
 * @param {string[]} extra
 * @returns {Promise<any>} null where TRL refuses the setting, as packed rows of a model with linear attention
 */
async function trl(extra) {
  try {
    return await peer('trl_baseline.py', [model, values.rows, '--rows', String(count), ...extra]);
  } catch (error) {
    const last = String(/** @type {any} */ (error).stderr ?? error)
      .trimEnd()
      .split('\n')
      .at(-1);
    say(`TRL does not train with ${extra.join(' ')}: ${last}\n`);
    return null;
  }
}

/** Our trainer and TRL's over the same rows, one after the other. */
async function speed() {
  const all = 'all-linear';
  const cases = [
    { name: 'float32', ours: 'bfloat16', targets: undefined, peerOptions: ['--precision', 'float32'] },
    { name: 'bfloat16', ours: 'bfloat16', targets: undefined, peerOptions: ['--precision', 'bfloat16'] },
    {
      name: 'bfloat16, packed',
      ours: 'bfloat16',
      targets: undefined,
      peerOptions: ['--precision', 'bfloat16', '--packing'],
    },
    { name: 'bfloat16, all-linear', ours: 'bfloat16', targets: all, peerOptions: ['--targets', all] },
    { name: 'float32 against float32', ours: 'float32', targets: undefined, peerOptions: ['--precision', 'float32'] },
  ];
  const rows = [];
  /** @type {Map<string, any>} */
  const peers = new Map();
  for (const { name, ours: precision, targets, peerOptions } of cases) {
    const training = { precision, batch_size: 8, max_seq_length: 512 };
    const ours = await measured('train', { rows: values.rows, count, targets, training });
    const key = peerOptions.join(' ');
    if (values['peer-python'] !== undefined && !peers.has(key)) peers.set(key, await trl(peerOptions));
    const theirs = peers.get(key);
    rows.push({ name, ours, theirs, ratio: theirs && ours.tokens_per_second / theirs.tokens_per_second });
  }
  say('Training speed: one pass over the rows, batch 8, r = 8. The first column names how TRL + PEFT runs.');
  say(
    table(
      ['TRL + PEFT', 'tokens/s', 'memory', 'ours', 'tokens/s', 'memory', 'ratio'],
      rows.map(({ name, ours, theirs, ratio }) => [
        name,
        theirs ? theirs.tokens_per_second.toFixed(0) : theirs === null ? 'refused' : 'not run',
        theirs ? `${theirs.peak_rss_gb.toFixed(1)} GB` : '',
        `${ours.precision}, ${ours.kernels}`,
        ours.tokens_per_second.toFixed(0),
        gigabytes(ours.peak_rss_bytes),
        ratio ? `${ratio.toFixed(1)} ×` : '',
      ]),
    ),
  );
  say(`${rows[0]?.ours.tokens} tokens, ${rows[0]?.ours.trained_tokens} of them with a loss.\n`);
  return rows;
}

/** The share of the rate of matrix products that a training step reaches, in each precision. */
async function share() {
  const results = [];
  for (const precision of /** @type {const} */ (['bfloat16', 'float32'])) {
    results.push({ precision, ...(await measured('machine', { precision, rows: 8, length: 225, repeats })) });
  }
  say(
    `Share of the machine: the model's floating-point work per second in a step of ${results[0]?.tokens} tokens, and products of its own shapes with no work between them.`,
  );
  say(
    table(
      [
        'precision',
        'tokens/s',
        'model, GFLOP/s',
        "TensorFlow's products, GFLOP/s",
        'share',
        'our own, GFLOP/s',
        'share',
      ],
      results.map(
        ({
          precision,
          tokens_per_second: tokens,
          model_gflops_per_second: model,
          matmul_gflops_per_second: rate,
          share: part,
        }) => [
          precision,
          tokens.toFixed(0),
          model.toFixed(0),
          rate.tensorflow.toFixed(0),
          percent(part.tensorflow),
          rate.own.toFixed(0),
          percent(part.own),
        ],
      ),
    ),
  );
  return results;
}

/** Tokens per second as batches and rows grow. */
async function growth() {
  const most = quick ? 4096 : 16_384;
  const bySize = [256, 512, 1024, 2048, 4096, 8192, 16_384].filter((tokens) => tokens <= most);
  const byLength = quick ? [64, 512, 2048] : [64, 512, 2048, 8192];
  const sizes = [
    ...bySize.map((tokens) => ({ rows: tokens / 128, length: 128, recompute: false })),
    ...byLength.map((length) => ({ rows: Math.max(1, 2048 / length), length, recompute: false })),
    { rows: 1, length: byLength.at(-1) ?? 2048, recompute: true },
  ];
  const measuredSizes = [];
  for (const size of sizes) {
    const result = await measured('growth', {
      precision: 'bfloat16',
      ...size,
      repeats: size.rows * size.length > 4096 ? 1 : repeats,
    });
    measuredSizes.push({ ...size, ...result });
  }
  say('Growth: one micro-batch forward and backward, bfloat16, LoRA on q and v, half of the tokens with a loss.');
  say(
    table(
      ['tokens', 'rows', 'row length', 'recompute', 'tokens/s', 'peak memory'],
      measuredSizes.map(({ tokens, rows, length, recompute, tokens_per_second: rate, peak_rss_bytes: peak }) => [
        tokens,
        rows,
        length,
        recompute ? 'yes' : 'no',
        rate.toFixed(0),
        gigabytes(peak),
      ]),
    ),
  );
  return measuredSizes;
}

/** A training step on the model in 4 bits beside the same in bfloat16: memory in a process each, time by turns in one. */
async function quantized() {
  const measuredSizes = [];
  const most = quick ? 2 : 4;
  const sizes = /** @type {const} */ ([
    [2, 128],
    [16, 128],
    [64, 128],
    [1, 2048],
  ]).slice(0, most);
  for (const [rows, length] of sizes) {
    const options = { precision: 'bfloat16', rows, length, repeats: 1 };
    const dense = await measured('growth', options);
    const packed = await measured('growth', { ...options, quantization: 'nf4' });
    // Short steps vary most.
    const pairs = rows * length <= 256 ? 15 : rows * length <= 2048 ? 5 : 3;
    const times = await measured('besideQuantized', { rows, length, pairs });
    measuredSizes.push({ rows, length, pairs, memory: [dense.peak_rss_bytes, packed.peak_rss_bytes], ...times });
  }
  say('Weights in 4 bits: a micro-batch as in growth, with base_quantization nf4 and in bfloat16, by turns. Medians.');
  const of = ['tokens', 'row length', 'bfloat16, tokens/s', 'peak memory', 'NF4, tokens/s', 'peak memory'];
  say(
    table(
      [...of, 'time of a step', 'of the pairs', 'time of processors'],
      measuredSizes.map(({ rows, length, memory: [dense, packed], ratio, ratios, ...times }) => [
        rows * length,
        length,
        times.dense_tokens_per_second.toFixed(0),
        gigabytes(dense),
        times.packed_tokens_per_second.toFixed(0),
        gigabytes(packed),
        `${ratio.toFixed(2)} ×`,
        `${times.pairs}: ${ratios[0].toFixed(2)} to ${ratios.at(-1).toFixed(2)}`,
        `${times.processor_ratio.toFixed(2)} ×`,
      ]),
    ),
  );
  return { sizes: measuredSizes, jobs: await jobsOnQuantized() };
}

/** The memory of jobs that train together on one base in 4 bits, and on the same in bfloat16: a process each. */
async function jobsOnQuantized() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-quantized-'));
  const results = [];
  try {
    for (const count of quick ? [1, 8] : [1, 4, 8, 16]) {
      /** @type {Record<string, import('./train-jobs.mjs').Measured | undefined>} */
      const measuredOf = {};
      for (const quantization of /** @type {const} */ (['none', 'nf4'])) {
        const work = { jobs: count, tokens: 128, targets: 'all-linear', ranks: [8], steps: 4, quantization };
        const works = [{ ...work, name: `${count} jobs` }];
        const [result] = await trainedTogether({ roots: { now: ROOT }, model, folder, turns: 1, works });
        measuredOf[quantization] = result?.measured.now?.[0];
      }
      results.push({ count, dense: measuredOf.none, packed: measuredOf.nf4 });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const memory = (/** @type {{ peakBytes: number } | undefined} */ one) => gigabytes(one?.peakBytes ?? Number.NaN);
  say('Jobs that train together on one base model, 128 tokens each, all linear layers, r = 8: peak memory.');
  say(
    table(
      ['jobs', 'bfloat16', 'NF4'],
      results.map(({ count, dense, packed }) => [count, memory(dense), memory(packed)]),
    ),
  );
  return results;
}

/** Linear attention, on a `--model` that has it: its share of the machine, and what one long row costs beside many. */
async function delta() {
  const share = await measured('machine', { precision: 'bfloat16', rows: 4, length: 512, repeats });
  const sizes = [];
  for (const [rows, length] of /** @type {const} */ ([
    [16, 512],
    [1, 8192],
  ])) {
    const { ops, seconds } = await measured('profile', { precision: 'bfloat16', rows, length, repeats: 1 });
    const ofLayers = ops.filter((/** @type {{ name: string }} */ { name }) => LINEAR_ATTENTION_OPS.test(name));
    if (ofLayers.length === 0) throw new Error(`${model} has no linear attention: pass --model`);
    const inLayers = ofLayers.reduce((/** @type {number} */ sum, /** @type {any} */ op) => sum + op.seconds, 0);
    sizes.push({ rows, length, seconds, seconds_in_layers: inLayers });
  }
  const { tokens, tokens_per_second: rate, model_gflops_per_second: work, share: part } = share;
  say(
    `Linear attention: a step of ${tokens} tokens in bfloat16: ${rate.toFixed(0)} tokens/s, ${work.toFixed(0)} GFLOP/s, ${percent(part.own)} of the rate of our own products, ${percent(part.tensorflow)} of TensorFlow's.`,
  );
  say(
    table(
      ['rows', 'tokens of a row', 'a step, s', 'convolution and delta rule, s'],
      sizes.map(({ rows, length, seconds, seconds_in_layers: inLayers }) => [
        rows,
        length,
        seconds.toFixed(2),
        inLayers.toFixed(3),
      ]),
    ),
  );
  return { share, sizes };
}

/** A mixture of experts, on a `--model` that is one: its share of the machine and its estimates, with adapters of attention and of all experts. */
async function experts() {
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

/** A training on the rows with each optimizer. */
async function optimizers() {
  const trainings = [];
  for (const optimizer of ['adamw', 'adamw_8bit']) {
    const training = {
      optimizer,
      precision: 'bfloat16',
      batch_size: 4,
      epochs: 3,
      learning_rate: 1e-3,
      max_seq_length: 256,
    };
    const { losses, ...trained } = await measured('train', {
      rows: values.rows,
      count,
      training,
      rank: 64,
      targets: 'all-linear',
    });
    const lastEpoch = losses.slice(-Math.ceil(losses.length / 3));
    const loss =
      lastEpoch.reduce((/** @type {number} */ sum, /** @type {number} */ one) => sum + one, 0) / lastEpoch.length;
    trainings.push({ optimizer, ...trained, firstLoss: losses[0], loss });
  }
  say('Optimizers: the same training on all linear layers with r = 64.');
  say(
    table(
      ['optimizer', 'steps', 'first loss', 'loss of the last epoch', 'tokens/s', 'peak memory'],
      trainings.map(({ optimizer, steps, firstLoss, loss, tokens_per_second: rate, peak_rss_bytes: peak }) => [
        optimizer,
        String(steps),
        firstLoss.toFixed(4),
        loss.toFixed(4),
        rate.toFixed(0),
        gigabytes(peak),
      ]),
    ),
  );
  return trainings;
}

/** A step of GRPO: eight answers to each of four prompts are sampled, graded, and trained on. And TRL's on the same prompts. */
async function rewards() {
  const [groups, size, longest] = quick ? [2, 4, 32] : [4, 8, 64];
  const steps = 3;
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-rewards-'));
  try {
    // Stories are longer than answers may be, so that all answers have the same length, with us as with TRL.
    const rows = Array.from({ length: groups * steps }, (_, i) => {
      const content = `Write a long story about ship number ${i + 1}: its crew, its storms, and the islands that it found.`;
      return `${JSON.stringify({ prompt: [{ role: 'user', content }], reference: null })}\n`;
    });
    const prompts = path.join(scratch, 'prompts.jsonl');
    await writeFile(prompts, rows.join(''));
    const objective = {
      kind: /** @type {const} */ ('group-relative'),
      grader: { type: /** @type {const} */ ('regex'), pattern: 'island' },
      group_size: size,
      max_completion_tokens: longest,
    };
    // In float32, both are slower.
    const precision = /** @type {const} */ ('bfloat16');
    const training = {
      ...{ precision, batch_size: groups, gradient_accumulation_steps: 1, max_steps: steps },
      ...{ learning_rate: 1e-6, max_seq_length: 512, on_overflow: 'error' },
    };
    const ours = await measured('train', { rows: prompts, count: rows.length, objective, training });
    const parameters = ['--method', 'grpo', '--rows', String(rows.length), '--precision', precision];
    const sizes = ['--batch-size', String(groups), '--group-size', String(size), '--max-completion', String(longest)];
    const theirs =
      values['peer-python'] === undefined
        ? null
        : await peer('trl_baseline.py', [model, prompts, ...parameters, ...sizes]);
    say(
      `Rewards: a step of GRPO with ${size} answers of up to ${longest} tokens to each of ${groups} prompts, from sampling to update.`,
    );
    say(
      table(
        ['', 'tokens of an answer', 's a step', 'memory', 'ratio'],
        [
          ['ours', ours.answer_tokens.toFixed(1), ours.seconds_per_step.toFixed(2), gigabytes(ours.peak_rss_bytes), ''],
          ...(theirs === null
            ? []
            : [
                [
                  "TRL's GRPO",
                  theirs.answer_tokens.toFixed(1),
                  theirs.seconds_per_step.toFixed(2),
                  `${theirs.peak_rss_gb} GB`,
                  `${(theirs.seconds_per_step / ours.seconds_per_step).toFixed(1)} ×`,
                ],
              ]),
        ],
      ),
    );
    return { precision, ours, theirs };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** A step on pairs of answers beside one on the same sequences as rows, and TRL's DPO beside it. */
async function preferences() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-preferences-'));
  try {
    const pairs = path.join(ROOT, 'examples/preferences/pairs.jsonl');
    const lines = (await readFile(pairs, 'utf8')).trimEnd().split('\n').slice(0, count);
    const sequences = lines.flatMap((line) => {
      const { prompt, chosen, rejected } = JSON.parse(line);
      return [chosen, rejected].map((answer) => `${JSON.stringify({ messages: [...prompt, ...answer] })}\n`);
    });
    const rows = path.join(scratch, 'rows.jsonl');
    await writeFile(rows, sequences.join(''));
    const results = [];
    /** @type {('bfloat16' | 'float32')[]} */
    const precisions = quick ? ['bfloat16'] : ['bfloat16', 'float32'];
    for (const precision of precisions) {
      const training = { precision, batch_size: 4, epochs: quick ? 1 : 3, max_seq_length: 512 };
      const objective = { kind: /** @type {const} */ ('preference') };
      const ofPairs = await measured('train', { rows: pairs, count: lines.length, objective, training });
      const supervised = { ...training, batch_size: 8 };
      const ofRows = await measured('train', { rows, count: sequences.length, training: supervised });
      const parameters = ['--method', 'dpo', '--rows', String(lines.length), '--precision', precision];
      const theirs =
        values['peer-python'] === undefined
          ? null
          : await peer('trl_baseline.py', [model, pairs, ...parameters, '--batch-size', '4']);
      results.push({ precision, ofPairs, ofRows, theirs });
    }
    say(
      'Preferences: a step of DPO on four pairs, after the reference has read them, and one on the same eight sequences as rows.',
    );
    say(
      table(
        ['precision', 'tokens', 'pairs, s a step', 'rows, s a step', 'pairs by rows', 'tokens/s', "TRL's DPO", 'ratio'],
        results.map(({ precision, ofPairs, ofRows, theirs }) => [
          precision,
          `${ofPairs.tokens}, ${ofRows.tokens}`,
          ofPairs.seconds_per_step.toFixed(3),
          ofRows.seconds_per_step.toFixed(3),
          `${(ofPairs.seconds_per_step / ofRows.seconds_per_step).toFixed(2)} ×`,
          ofPairs.tokens_per_second.toFixed(0),
          theirs ? theirs.tokens_per_second.toFixed(0) : 'not run',
          theirs ? `${(ofPairs.tokens_per_second / theirs.tokens_per_second).toFixed(1)} ×` : '',
        ]),
      ),
    );
    return results;
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The estimates of dry_run against measurements of real jobs; with --shape, of one job on a model of that shape in 4 bits. */
async function estimate() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-estimate-'));
  try {
    const write = async (/** @type {keyof typeof SHAPES} */ name) => {
      const folder = path.join(scratch, `llama-${name}`);
      await writeRandomModel(folder, { family: 'llama', shape: SHAPES[name], tokenizerFrom: model });
      return folder;
    };
    const jobs = shape === null ? await estimateJobs({ rows: values.rows, write }) : [await jobOfShape(shape, write)];
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

/** Loading the model as it is, and, if nothing in it is quantized, with weights that are quantized as they are read. */
async function loading() {
  const asStored = await measured('loading', { precision: 'bfloat16' });
  const isDense = ['float32', 'float16', 'bfloat16'].includes(asStored.dtype);
  const quantized = isDense ? [await measured('loading', { precision: 'bfloat16', quantization: 'nf4' })] : [];
  const results = [asStored, ...quantized].map((result, i) => ({ quantization: i === 0 ? 'none' : 'nf4', ...result }));
  say(`Loading ${gigabytes(asStored.bytes)} in ${asStored.dtype}: bytes of the files per second, page cache warm`);
  say(
    table(
      ['base_quantization', 'with sha256', 'sha256 remembered', 'plain read', 'peak memory'],
      results.map((result) => [
        result.quantization,
        `${gigabytes(result.first_load_bytes_per_second)}/s`,
        `${gigabytes(result.load_bytes_per_second)}/s`,
        `${gigabytes(result.plain_bytes_per_second)}/s`,
        gigabytes(result.peak_rss_bytes),
      ]),
    ),
  );
  return results;
}

/** Where the time of a step goes, with TensorFlow's own ops and with the fused ones. */
async function profile() {
  const size = { precision: 'bfloat16', rows: 8, length: 225, repeats };
  const before = await measured('profile', { ...size, kernels: 'raw' });
  const after = await measured('profile', size);
  for (const [title, { seconds, seconds_in_ops: inOps, ops, tokens }] of [
    ['raw ops', before],
    ['fused ops', after],
  ]) {
    say(`A step of ${tokens} tokens with ${title}: ${seconds.toFixed(2)} s, ${inOps.toFixed(2)} s of it in ops`);
    say(
      table(
        ['op', 'calls', 'seconds', 'share'],
        ops
          .slice(0, 12)
          .map((/** @type {{ name: string, calls: number, seconds: number }} */ op) => [
            op.name,
            op.calls.toFixed(0),
            op.seconds.toFixed(3),
            percent(op.seconds / inOps),
          ]),
      ),
    );
  }
  return { before, after };
}

/** The time around a training, of this checkout and, with --before, of another one, by turns. */
async function around() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'lorasmith-around-'));
  try {
    const largeModel = path.resolve(values['large-model'] ?? path.join(scratch, 'llama-1b'));
    if (values['large-model'] === undefined) {
      await writeRandomModel(largeModel, { family: 'llama', shape: SHAPES['1b'], tokenizerFrom: model });
    }
    const chats = path.join(scratch, 'chats.jsonl');
    const { text } = await readBenchRows(values.rows, 100_000);
    const rows = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    await writeChats({ rows, bytes: quick ? 3e6 : 30e6, file: chats });

    /** @type {Record<string, any[]>} */
    const runs = { now: [], before: [] };
    const adapter = path.join(scratch, 'adapter');
    for (let turn = 0; turn < (quick ? 1 : 2); turn++) {
      for (const [name, root] of [
        ['before', values.before],
        ['now', ROOT],
      ]) {
        if (root === undefined) continue;
        const folder = path.join(scratch, 'stack');
        const options = { root: path.resolve(root), folder, model, largeModel, chats };
        const first = runs.now?.length === 0 && name === 'now';
        runs[/** @type {string} */ (name)]?.push(
          await aroundTraining({ ...options, ...(first ? { adapterTo: adapter } : {}) }),
        );
        await rm(folder, { recursive: true });
      }
    }
    const loading = { model: largeModel, precision: 'bfloat16' };
    const before = values.before && (await measured('loading', loading, path.resolve(values.before)));
    const load = { before, ...(await measured('loading', loading)) };
    const copy = await copyWithDigest({ from: largeModel, to: path.join(scratch, 'copy') });
    await rm(path.join(scratch, 'copy'), { recursive: true });
    const hasPeer = values['peer-python'] !== undefined;
    const peft = hasPeer ? await peer('peft_merge.py', [largeModel, adapter, path.join(scratch, 'merged')]) : null;
    const tokenized = hasPeer ? await peer('tokenize_baseline.py', [model, chats]) : null;
    sayAround({ now: runs.now ?? [], before: runs.before ?? [], load, copy, peft, tokenized });
    return { ...runs, load, copy, peft, tokenized };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Several jobs on one base model, of this checkout and, with --before, of another one, by turns. */
async function jobs() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'lorasmith-jobs-'));
  try {
    const roots = { ...(values.before === undefined ? {} : { before: path.resolve(values.before) }), now: ROOT };
    const turns = quick ? 1 : 3;
    const together = await trainedTogether({ roots, model, folder: path.join(scratch, 'trained'), turns });
    /** @type {Record<string, import('./parts/jobs.mjs').WholeJobs[]>} */
    const whole = Object.fromEntries(Object.keys(roots).map((name) => [name, []]));
    for (let turn = 0; turn < (quick ? 1 : 2); turn++) {
      for (const [name, root] of Object.entries(roots)) {
        const folder = path.join(scratch, 'stack');
        whole[name]?.push(await wholeJobs({ root, folder, model }));
        await rm(folder, { recursive: true });
      }
    }
    sayJobs(together, whole);
    return { together, whole };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Completion times of the jobs of two keys that send at the same time. */
async function fairness() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fairness-'));
  try {
    const result = await fairnessOfKeys({ root: ROOT, folder, model });
    const seconds = (/** @type {number[]} */ ...all) => all.map((one) => one.toFixed(1)).join(', ');
    const times = (/** @type {number} */ one) => `${(one / result.alone).toFixed(2)} ×`;
    const last = (/** @type {number[]} */ all) => Math.max(...all);
    const { alone, otherKey, sameKey, manyOfFirst, fewOfSecond } = result;
    say(
      'Jobs of 10 steps through the HTTP API, beside one of 10,000 steps of the first key: seconds until the adapter.',
    );
    say(
      table(
        ['jobs', 'seconds', 'the last of them'],
        [
          ['one alone', seconds(alone), ''],
          ['one of the second key', seconds(otherKey), times(otherKey)],
          ['one of the first key', seconds(sameKey), times(sameKey)],
          ['2 of the second key, right after the 10', seconds(...fewOfSecond), times(last(fewOfSecond))],
          ['10 of the first key', seconds(...manyOfFirst), times(last(manyOfFirst))],
        ],
      ),
    );
    say(`The long job had ${result.longSteps} steps by then.\n`);
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Many workers with trainers that compute nothing, beside a real Redis, api and registry. */
async function lists() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-lists-'));
  const adapters = quick ? 1_000 : 10_000;
  const delayMs = 20;
  const roots = values.before === undefined ? [ROOT] : [path.resolve(values.before), ROOT];
  try {
    const figures = await listsOfAdapters({ roots, folder, cache: cacheDir(process.env), adapters, delayMs });
    say(`${adapters} adapters of ten keys in a bucket whose answers take ${delayMs} ms longer.`);
    const columns = roots.length === 1 ? [''] : [', before', ', now'];
    say(
      table(
        ['what', ...columns.map((column) => `list requests, others, seconds${column}`)],
        Object.keys(/** @type {object} */ (figures.at(-1))).map((name) => [
          name,
          ...figures.map(({ [name]: one }) => (one ? `${one.lists}, ${one.others}, ${one.seconds.toFixed(2)}` : '')),
        ]),
      ),
    );
    return { adapters, delayMs, figures };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function fleet() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fleet-'));
  try {
    const sizes = quick
      ? { workers: 20, jobs: 500, hosts: 1, scale: 1_800 }
      : { workers: 200, jobs: 20_000, hosts: 2, scale: 600 };
    const result = await fleetOfWorkers({ root: ROOT, folder, model, bases: 5, keys: 10, limitSeconds: 150, ...sizes });
    const { redis, processes, shares, outcome } = result;
    say(
      `${sizes.workers} workers with trainers that compute nothing, ${sizes.jobs} jobs of 10 minutes to 2 hours, ${sizes.scale} times as fast.`,
    );
    const rate = (/** @type {number} */ one) => `${one.toFixed(1)}/s`;
    const usage = (/** @type {{ cpuShare: number, memoryBytes: number }} */ { cpuShare, memoryBytes }) =>
      `${cpuShare.toFixed(2)} cores, ${gigabytes(memoryBytes)}`;
    say(
      table(
        ['what', 'measured'],
        [
          ['jobs recorded', rate(sizes.jobs / result.fillSeconds)],
          ['claims', rate(result.claimsPerSecond)],
          ['ends', rate(result.endsPerSecond)],
          ['ends if claims and ends took no time', rate(result.idealEndsPerSecond)],
          ['from the first claim to the last end', `${result.drainSeconds.toFixed(0)} s`],
          ['jobs that were not claimed within 150 s', result.waitingAtEnd],
          ['jobs that succeeded, attempts', `${outcome.succeeded}, ${outcome.attempts}`],
          [
            'least and largest share of a key, of an equal one',
            `${Math.min(...shares).toFixed(2)}, ${Math.max(...shares).toFixed(2)}`,
          ],
          ['base models loaded', result.loads],
          ['Redis: commands', rate(redis.commandsPerSecond)],
          ['Redis: processor, peak memory', `${redis.cpuShare.toFixed(2)} cores, ${gigabytes(redis.peakBytes)}`],
          ['Redis: connections', redis.connections],
          ['Redis: most of its time', redis.top.map(({ command, share }) => `${command} ${percent(share)}`).join(', ')],
          ['api', usage(processes.api)],
          ['registry', usage(processes.registry)],
          [`all workers, in ${sizes.hosts} processes`, usage(processes.hosts)],
        ],
      ),
    );
    const ms = (/** @type {number} */ one) => `${one.toFixed(0)} ms`;
    say(
      table(
        ['request', 'sent', 'p50', 'p99', 'worst'],
        Object.entries(result.latencies).map(([name, { count: sent, p50, p99, worst }]) => [
          name,
          sent,
          ms(p50),
          ms(p99),
          ms(worst),
        ]),
      ),
    );
    return { ...sizes, ...result };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Variants of the demo's job: one after the other, as a sweep, and by halving. */
async function sweeps() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-sweeps-'));
  try {
    const rows = path.join(ROOT, 'examples/dates/train.jsonl');
    const result = await sweepsOfVariants({ root: ROOT, folder, model, rows, steps: quick ? 16 : 72 });
    const passes = [];
    for (const jobs of [1, 2, 8]) {
      passes.push(await measured('sharedPass', { precision: 'bfloat16', jobs, rows: 8, length: 43, repeats }));
    }
    const { steps, alone, answered, together, halved, halvedSteps } = result;
    const inAll = alone.reduce((sum, one) => sum + one, 0);
    const line = (/** @type {string} */ name, /** @type {number} */ ofAll, /** @type {number} */ seconds) => [
      name,
      ofAll,
      seconds.toFixed(1),
      `${(inAll / seconds).toFixed(2)} ×`,
    ];
    say(
      `${alone.length} variants of the demo's job, ${steps} steps each, through the HTTP API: seconds until the last adapter.`,
    );
    say(
      table(
        ['', 'steps', 'seconds', 'faster'],
        [
          line('one after the other', alone.length * steps, inAll),
          line('a sweep of all', alone.length * steps, together),
          line('the same by halving', halvedSteps, halved),
        ],
      ),
    );
    say(
      `Alone they took ${alone.map((one) => one.toFixed(1)).join(', ')} s. POST /sweeps answered after ${answered.toFixed(2)} s.\n`,
    );
    say('A pass of several such jobs, of 344 tokens each.');
    const perToken = (/** @type {number} */ seconds, /** @type {number} */ jobs) =>
      `${((1e3 * seconds) / (jobs * 344)).toFixed(2)} ms`;
    say(
      table(
        ['jobs', 'tokens/s', 'a token', 'of it products with frozen weights'],
        passes.map(({ jobs, tokens_per_second: rate, seconds, seconds_in_products: inProducts }) => [
          jobs,
          rate.toFixed(0),
          perToken(seconds, jobs),
          perToken(inProducts, jobs),
        ]),
      ),
    );
    return { ...result, passes };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * @param {Awaited<ReturnType<typeof trainedTogether>>} together
 * @param {Record<string, import('./parts/jobs.mjs').WholeJobs[]>} whole
 */
function sayJobs(together, whole) {
  const middle = (/** @type {number[]} */ numbers) =>
    [...numbers].sort((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)] ?? Number.NaN;
  say('Training steps of several jobs on one base model in bfloat16, tokens/s: medians.');
  say(
    table(
      ['jobs × tokens of a step', 'before', 'now', 'ratio', 'a step of all, now', 'peak memory, before', 'now'],
      together.map(({ name, measured: { before, now = [] } }) => {
        const rate = (/** @type {typeof now | undefined} */ of) => of && middle(of.map((one) => one.tokensPerSecond));
        const peak = (/** @type {typeof now | undefined} */ of) => of && Math.max(...of.map((one) => one.peakBytes));
        const [rateBefore, rateNow = Number.NaN] = [rate(before), rate(now)];
        const [peakBefore, peakNow = Number.NaN] = [peak(before), peak(now)];
        return [
          name,
          rateBefore?.toFixed(0) ?? 'not run',
          rateNow.toFixed(0),
          rateBefore === undefined ? '' : `${(rateNow / rateBefore).toFixed(2)} ×`,
          `${(1e3 * middle(now.map((one) => one.stepSeconds))).toFixed(0)} ms`,
          peakBefore === undefined ? '' : gigabytes(peakBefore),
          gigabytes(peakNow),
        ];
      }),
    ),
  );
  const { before, now = [] } = whole;
  /** @type {[string, (run: import('./parts/jobs.mjs').WholeJobs) => number][]} */
  const lines = [
    ['8 jobs of 20 steps sent at once, until the last adapter', (run) => run.all],
    ['the first of them to end', (run) => Math.min(...run.each)],
    ['a job of 10 steps alone', (run) => run.shortAlone],
    ['the same beside one of 10,000 steps', (run) => run.shortBeside],
    ['its first step, from POST /jobs', (run) => run.joinedFirstStep],
  ];
  say('Whole jobs through the HTTP API, in seconds: the better run.');
  say(
    table(
      ['', 'before', 'now'],
      lines.map(([name, of]) => [
        name,
        before === undefined ? 'not run' : shown(Math.min(...before.map(of))),
        shown(Math.min(...now.map(of))),
      ]),
    ),
  );
}

/** @param {number} seconds */
function shown(seconds) {
  return Number.isFinite(seconds) ? seconds.toFixed(2) : 'it waits for the long one';
}

/** @param {{ now: any[], before: any[], load: any, copy: any, peft: any, tokenized: any }} results */
function sayAround({ now, before, load, copy, peft, tokenized }) {
  /** @type {[name: string, of: (run: any) => number, unit: string, peer?: string][]} */
  const lines = [
    ['merged model, first time', (run) => run.mergeSeconds, 's', peft && `${peft.seconds.toFixed(1)} s, PEFT`],
    ['downloading it again', (run) => run.download.bytes / run.download.seconds / 1e6, 'MB/s'],
    ['processor time of api and registry', (run) => run.download.cpuSeconds / (run.download.bytes / 1e9), 's/GB'],
    ['large model, cold: POST /jobs to the end of the first step', (run) => run.coldJob.firstStep, 's'],
    ['one step of it', (run) => run.warmJob.step, 's'],
    ['large model, warm: POST /jobs to the end of the first step', (run) => run.warmJob.firstStep, 's'],
    ['large model: last step to published', (run) => (run.coldJob.published + run.warmJob.published) / 2, 's'],
    ['small model: last step to published', (run) => run.smallJob.published, 's'],
    ['small model, warm: a job of one step', (run) => run.smallJob.whole, 's'],
    ['uploading the chats', (run) => run.rows.bytes / run.rows.uploadSeconds / 1e6, 'MB/s'],
    ['POST /jobs on them answers after', (run) => run.rows.answerSeconds, 's'],
    [
      'tokenizing them',
      (run) => run.rows.bytes / run.rows.tokenizedSeconds / 1e6,
      'MB/s',
      tokenized && `${(tokenized.bytes / tokenized.seconds / 1e6).toFixed(1)} MB/s, transformers`,
    ],
  ];
  say(
    'Around a training. The large model has 1.07 billion parameters in bfloat16 (2.15 GB), r = 16 on all linear layers.',
  );
  say(
    table(
      ['what', 'before', 'now', 'peer'],
      lines.map(([name, of, unit, theirs]) => [
        name,
        bestText(before.map(of), unit),
        bestText(now.map(of), unit),
        theirs ?? '',
      ]),
    ),
  );
  say(`Copying its files with their sha256: ${copy.seconds.toFixed(1)} s.`);
  const rate = (/** @type {number} */ bytes) => `${gigabytes(bytes)}/s`;
  const earlier = load.before ? `; before ${rate(load.before.load_bytes_per_second)}` : '';
  say(
    `Loading it: ${rate(load.load_bytes_per_second)}, with its digest ${rate(load.first_load_bytes_per_second)}${earlier}; a plain read ${rate(load.plain_bytes_per_second)}.\n`,
  );
}

/**
 * The better of the runs: what another process takes of the machine only makes them worse.
 *
 * @param {number[]} values @param {string} unit
 */
function bestText(values, unit) {
  if (values.length === 0) return '';
  const best = unit === 'MB/s' ? Math.max(...values) : Math.min(...values);
  return `${best < 10 ? best.toFixed(2) : best.toFixed(0)} ${unit}`;
}
