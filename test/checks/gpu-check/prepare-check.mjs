import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { DEMO_MODEL_NAME } from '../../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { writeTinyLlama } from '../../tiny-llama.mjs';
import { LARGE_SHAPES, SMALL_SHAPES, weightBytes, writeRandomModel } from './model-shapes.mjs';
import { textRows } from './text-rows.mjs';

const FIXTURES = path.join(ROOT_DIR, 'test/fixtures');
const STEPS = 8;
/** The longest size below, and the most rows a step. */
const MOST = { rows: 4, length: 8192 };
/** The published rates of others are of 2 × 2,048 and 2 × 4,096. @type {import('./parts.mjs').Sizes} */
const SIZES = {
  speed: '4x512,2x2048,4x2048,2x4096,1x8192',
  peer: '4x512,4x2048,1x8192',
  quantized: '2x2048,4x2048,2x4096',
  mixture: '4x512,4x2048',
  shared: 'chats:4x2048,pairs:2x2048,groups:1x256',
  jobs: '1x512',
  margin: '4x2048',
  longestRow: '32768',
  generation: ['128', '128'],
};
/** @type {import('./parts.mjs').Sizes} */
const SMALL_SIZES = {
  speed: '2x32',
  peer: '2x32',
  quantized: '2x32',
  mixture: '2x16',
  shared: 'chats:2x8,pairs:1x8,groups:1x2',
  jobs: '1x16',
  margin: '2x32',
  longestRow: '48',
  generation: ['8', '4'],
};
/** The least memory that activations, adapters and caches take beside the weights. */
const LEAST_FREE_BYTES = 4e9;
/** The memory of a model whose layers have 4 bits, as a share of bfloat16: the embedding and the head stay. */
const PACKED_SHARE = 0.4;

/**
 * Writes what parts read and needs no card: models with random weights, rows.
 *
 * @param {{ out: string, modelsDir: string, randomModelsDir: string, env: NodeJS.ProcessEnv, isEmulated: boolean, model: string | undefined, maxSteps: number | undefined, precision: string, python: string | undefined,
 *   log: (line: string) => void }} options `model`: folder of the demo's base model; undefined: the usual one
 * @returns {Promise<import('./parts.mjs').Check>}
 */
export async function prepareCheck(options) {
  const { out, modelsDir, randomModelsDir, env, isEmulated, python, log } = options;
  const rowsFile = path.join(out, 'rows.jsonl');
  const texts = isEmulated ? { rows: 2, length: 32 } : MOST;
  const rows = textRows({ ...texts, rows: texts.rows * STEPS });
  await writeFile(rowsFile, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  const tiny = path.join(out, 'tiny-llama');
  if (isEmulated) await writeTinyLlama(tiny);
  const demoModel = options.model ?? (isEmulated ? tiny : path.join(modelsDir, DEMO_MODEL_NAME));
  const reference = path.join(FIXTURES, 'reference');
  const small = { name: '135M', folder: demoModel, bytes: await readWeights(demoModel) };
  const shapes = isEmulated ? { tiny: SMALL_SHAPES.llama, mixture: SMALL_SHAPES.mixture } : LARGE_SHAPES;
  const memoryBytes = isEmulated ? Number.POSITIVE_INFINITY : await cardMemory();
  const folder = isEmulated ? out : randomModelsDir;
  const written = await randomModels(folder, shapes, { memoryBytes, demoModel: isEmulated ? tiny : demoModel, log });
  const fitting = written.filter(({ bytes }) => bytes + LEAST_FREE_BYTES <= memoryBytes);
  return {
    ...{ out, env, isEmulated, demoModel, python },
    rows: path.join(ROOT_DIR, 'examples/dates/train.jsonl'),
    maxSteps: options.maxSteps ?? (isEmulated ? 6 : undefined),
    precision: options.precision,
    references: isEmulated
      ? [path.join(reference, 'llama-tied'), path.join(reference, 'linear')]
      : [...(await casesIn(reference)), ...(await casesIn(path.join(FIXTURES, 'families')))],
    models: [...fitting.filter(({ name }) => name !== 'mixture'), ...(isEmulated ? [] : [small])],
    packedModels: written.filter(({ name }) => name !== 'mixture'),
    mixture: fitting.find(({ name }) => name === 'mixture') ?? null,
    sizes: isEmulated ? SMALL_SIZES : SIZES,
    textRows: rowsFile,
    steps: isEmulated ? 2 : STEPS,
  };
}

/**
 * Writes models with random weights, those that the card has memory for in 4 bits.
 *
 * @param {string} folder
 * @param {Record<string, import('./model-shapes.mjs').ModelShape>} shapes by name
 * @param {{ memoryBytes: number, demoModel: string, log: (line: string) => void }} options `memoryBytes`: of the card
 * @returns {Promise<import('./parts.mjs').Measured[]>}
 */
async function randomModels(folder, shapes, { memoryBytes, demoModel, log }) {
  const models = [];
  for (const [name, shape] of Object.entries(shapes)) {
    if (PACKED_SHARE * weightBytes(shape) + LEAST_FREE_BYTES > memoryBytes) continue;
    const own = path.join(folder, `random-${name}`);
    log(`Writing ${own}, ${(weightBytes(shape) / 1e9).toFixed(1)} GB of random weights`);
    await writeRandomModel({ folder: own, shape, tokenizerFrom: demoModel });
    models.push({ name, folder: own, bytes: await readWeights(own) });
  }
  return models;
}

/**
 * Reads the weights of a model, so that what is measured later does not wait for the disk.
 *
 * @param {string} folder
 * @returns {Promise<number>} their bytes
 */
async function readWeights(folder) {
  let bytes = 0;
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.safetensors')) continue;
    const file = path.join(folder, name);
    for await (const _ of createReadStream(file, { highWaterMark: 2 ** 22 }));
    bytes += (await stat(file)).size;
  }
  return bytes;
}

/** The memory of the first card; 0 where the driver's program does not say. */
async function cardMemory() {
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', [
      '--query-gpu=memory.total',
      '--format=csv,noheader,nounits',
    ]);
    return Number(stdout.split('\n')[0]) * 2 ** 20 || 0;
  } catch {
    return 0;
  }
}

/** @param {string} folder @returns {Promise<string[]>} folders with a case in `folder` */
async function casesIn(folder) {
  const found = await readdir(folder, { recursive: true });
  const cases = found.filter((name) => /^[^/]+\/(case|classifier)\.json$/.test(name));
  return cases.map((name) => path.join(folder, path.dirname(name)));
}
