// Measures memory and time for datasets of growing size: checking as at upload, tokenizing as in planning, and reading once as
// in an epoch. Each runs in its own process with a limited heap.
//
//   node test/bench/dataset-size.mjs --rows 200000,2000000 --model models/SmolLM2-135M-Instruct
//   node test/bench/dataset-size.mjs --rows 200000,2000000            (rows of 32 numbers for a classifier)
import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';

const HEAP_MB = 256;
const WIDTH = 32;
const PASS = fileURLToPath(new URL('../../packages/planning/test/fixtures/pass-over-rows.mjs', import.meta.url));
const UPLOAD = fileURLToPath(import.meta.url);

/** Measures each number of rows, and prints a line of JSON. */
async function measureSizes() {
  const { readModelFolder } = await import('../../packages/model-folder/dist/index.js');
  const { jobSpecOf } = await import('../../services/api/dist/jobs/job-inputs.js');
  const { values } = parseArgs({
    options: { rows: { type: 'string', default: '20000,200000' }, model: { type: 'string' } },
  });
  const folderOfModel = values.model;
  const model =
    folderOfModel === undefined
      ? classifier()
      : { ...(await readModelFolder(folderOfModel)), tensors: {}, linears: {} };
  const spec = jobSpecOf({
    base_model: 'bench',
    dataset: `ds_${'0'.repeat(24)}`,
    validation: { split: 0.1 },
    lora: { target_modules: 'all-linear' },
    training: { epochs: 1 },
  });
  const width = folderOfModel === undefined ? WIDTH : null;
  for (const rows of values.rows.split(',').map(Number)) {
    const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-bench-'));
    try {
      const pass = await run(PASS, { folder, rows, spec, model, width });
      const upload = await run(UPLOAD, { file: path.join(folder, 'data.jsonl') });
      console.log(JSON.stringify({ ...pass, uploadPeakBytes: upload.peakBytes, uploadMs: upload.ms }));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

/**
 * @param {string} program
 * @param {object} parameters
 */
async function run(program, parameters) {
  const flags = [`--max-old-space-size=${HEAP_MB}`, '--max-semi-space-size=2'];
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, program, JSON.stringify(parameters)]);
  return JSON.parse(stdout);
}

function classifier() {
  const layers = [
    { name: '0', inFeatures: WIDTH, outFeatures: 4, bias: true },
    { name: '2', inFeatures: 4, outFeatures: 2, bias: true },
  ];
  const modules = layers.map(({ name, inFeatures, outFeatures }) => ({
    name,
    in_features: inFeatures,
    out_features: outFeatures,
  }));
  const architecture = { kind: 'classifier', family: 'classifier', layers, activation: 'relu' };
  return {
    path: '/nowhere',
    name: 'bench',
    architecture,
    modules,
    parameters: [],
    headModule: null,
    parameterCount: 142,
  };
}

/** Checks a file as `POST /datasets` does, and prints memory and time as JSON. @param {string} file */
async function checkUpload(file) {
  const { DatasetChecker } = await import('../../services/api/dist/datasets/dataset-checker.js');
  const began = performance.now();
  const checker = new DatasetChecker({ maxBytes: 2 ** 40, maxLineBytes: 10 * 2 ** 20, maxRows: 1e8 });
  for await (const chunk of createReadStream(file)) checker.push(chunk);
  const { rows } = checker.finish();
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  process.stdout.write(JSON.stringify({ rows, peakBytes, ms: Math.round(performance.now() - began) }));
}

// A child, whose peak of memory is measured, loads nothing else.
const [order] = process.argv.slice(2);
if (order?.startsWith('{')) await checkUpload(JSON.parse(order).file);
else await measureSizes();
