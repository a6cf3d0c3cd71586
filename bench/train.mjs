// Times one pass of training over some rows, in this process's child alone: no queue, no HTTP.
//   node bench/train.mjs MODEL_FOLDER ROWS.jsonl [--rows 64] [--batch-size 8] [--targets q_proj,v_proj] [--rank 8]
//     [--precision auto|float32|bfloat16] [--peer peer.json]
// Prints one JSON line; with --peer (what trl_baseline.py printed) also the ratio to it.
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LoraSettings, TrainingSettings } from '../packages/contracts/dist/index.js';
import { trainerEnvironment } from '../services/worker/dist/trainer/trainer-environment.js';

const MAX_SEQUENCE_LENGTH = 512;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '64' },
    'batch-size': { type: 'string', default: '8' },
    targets: { type: 'string', default: 'q_proj,v_proj' },
    rank: { type: 'string', default: '8' },
    precision: { type: 'string', default: 'auto' },
    peer: { type: 'string' },
  },
});
const [modelFolder, rowsFile] = positionals;
if (modelFolder === undefined || rowsFile === undefined) {
  process.stderr.write('Usage: node bench/train.mjs MODEL_FOLDER ROWS.jsonl [options]; bench/README.md has them\n');
  process.exit(2);
}

if (process.send === undefined) {
  // The allocator's settings must be in the environment before the process starts; the worker's trainer has the same.
  const child = fork(process.argv[1] ?? '', process.argv.slice(2), { env: trainerEnvironment(process.env) });
  const [code] = await once(child, 'exit');
  process.exit(code ?? 1);
}

const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-bench-'));
try {
  const measured = await timeTraining(path.resolve(modelFolder), rowsFile, folder);
  const peer = values.peer === undefined ? undefined : JSON.parse(await readFile(values.peer, 'utf8'));
  process.stdout.write(`${JSON.stringify({ ...measured, ...(peer ? comparedWith(peer, measured) : {}) })}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
  process.disconnect();
}

/** @param {string} model @param {string} source @param {string} scratch */
async function timeTraining(model, source, scratch) {
  // Here, not above: the engine is to be loaded in the child only.
  const [{ train }, { detectFormat }] = await Promise.all([
    import('../packages/training/dist/index.js'),
    import('../packages/planning/dist/index.js'),
  ]);
  const lines = (await readFile(source, 'utf8')).trimEnd().split('\n').slice(0, Number(values.rows));
  const text = lines.map((line) => `${line}\n`).join('');
  const rowsToTrain = path.join(scratch, 'rows.jsonl');
  await writeFile(rowsToTrain, text);
  const format = detectFormat(JSON.parse(lines[0] ?? 'null'));
  if (format === null) throw new Error(`the first row of ${source} is of no known format`);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const dataset = `ds_${sha256.slice(0, 24)}`;

  /** @type {import('../packages/contracts/dist/index.js').JobSpec} */
  const spec = {
    base_model: path.basename(model),
    dataset,
    validation: { split: 0 },
    lora: {
      .../** @type {import('../packages/contracts/dist/index.js').LoraSettings} */ (defaultsOf(LoraSettings)),
      r: Number(values.rank),
      alpha: 2 * Number(values.rank),
      target_modules: values.targets === 'all-linear' ? values.targets : values.targets.split(','),
    },
    training: {
      .../** @type {import('../packages/contracts/dist/index.js').TrainingSettings} */ (defaultsOf(TrainingSettings)),
      epochs: 1,
      batch_size: Number(values['batch-size']),
      max_seq_length: MAX_SEQUENCE_LENGTH,
      on_overflow: 'truncate',
      precision: /** @type {'auto' | 'float32' | 'bfloat16'} */ (values.precision),
      checkpoint_every_steps: null,
    },
    name: null,
    metadata: {},
  };
  const { result, report } = await train({
    spec,
    modelFolder: model,
    dataset: {
      id: dataset,
      object: 'dataset',
      sha256,
      name: null,
      format,
      rows: lines.length,
      bytes: Buffer.byteLength(text),
      features: null,
      warnings: [],
      created_at: new Date().toISOString(),
    },
    rowsFile: rowsToTrain,
    checkpointFolder: path.join(scratch, 'checkpoints'),
    outputFolder: scratch,
    initialAdapterFolder: null,
    signal: new AbortController().signal,
    onEvent: (event) => {
      if (event.type !== 'step-finished') return;
      const { step, total_steps, loss, tokens_per_second } = event.data;
      process.stderr.write(
        `step ${step}/${total_steps}  loss ${loss.toFixed(4)}  ${Math.round(tokens_per_second)} tokens/s\n`,
      );
    },
  });
  return {
    trainer: 'lorasmith',
    precision: report.precision.chosen,
    rows: lines.length,
    tokens: result.tokens,
    seconds: round(result.seconds, 2),
    tokens_per_second: round(result.tokens / result.seconds, 1),
    peak_rss_gb: round(result.peak_memory_bytes / 1e9, 2),
    losses: result.losses.map((loss) => round(loss, 4)),
  };
}

/**
 * @param {{ rows: number, tokens: number, tokens_per_second: number, peak_rss_gb: number }} peer
 * @param {{ rows: number, tokens: number, tokens_per_second: number, peak_rss_gb: number }} ours
 */
function comparedWith(peer, ours) {
  if (peer.tokens !== ours.tokens) {
    process.stderr.write(`Not the same tokens: ${ours.tokens} here, ${peer.tokens} there; compare with care.\n`);
  }
  return {
    speed_ratio: round(ours.tokens_per_second / peer.tokens_per_second, 2),
    memory_ratio: round(ours.peak_rss_gb / peer.peak_rss_gb, 2),
  };
}

/** @param {{ properties: Record<string, object> }} schema the settings, each with a default */
function defaultsOf(schema) {
  return Object.fromEntries(
    Object.entries(schema.properties).map(([name, setting]) => [
      name,
      'default' in setting ? setting.default : undefined,
    ]),
  );
}

/** @param {number} value @param {number} digits */
function round(value, digits) {
  return Number(value.toFixed(digits));
}
