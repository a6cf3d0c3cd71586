import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { writeTinyLlama } from '../../test/tiny-llama.mjs';
import { LARGE_SHAPES, weightBytes, writeRandomModel } from './model-shapes.mjs';
import { textRows } from './text-rows.mjs';

const FIXTURES = path.join(ROOT_DIR, 'test/fixtures');
const STEPS = 8;
/** The longest size below, and the most rows a step. */
const MOST = { rows: 4, length: 8192 };
const SIZES = '4x512,4x2048,1x8192';
/** The least memory that activations, adapters and caches take beside the weights. */
const LEAST_FREE_BYTES = 4e9;

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
  return {
    ...{ out, env, isEmulated, demoModel, python },
    rows: path.join(ROOT_DIR, 'examples/dates/train.jsonl'),
    maxSteps: options.maxSteps ?? (isEmulated ? 6 : undefined),
    precision: options.precision,
    references: isEmulated
      ? [path.join(reference, 'llama-tied'), path.join(reference, 'linear')]
      : [...(await casesIn(reference)), ...(await casesIn(path.join(FIXTURES, 'families')))],
    models: await Promise.all(
      (isEmulated
        ? [{ name: 'tiny', folder: tiny, sizes: '2x32' }]
        : [
            { name: '135M', folder: demoModel, sizes: SIZES },
            ...(await randomModels({ randomModelsDir, demoModel, log })),
          ]
      ).map(async (model) => ({ ...model, bytes: await readWeights(model.folder) })),
    ),
    textRows: rowsFile,
    steps: isEmulated ? 2 : STEPS,
  };
}

/**
 * Writes the models with random weights that fit the card.
 *
 * @param {{ randomModelsDir: string, demoModel: string, log: (line: string) => void }} options
 * @returns {Promise<Omit<import('./parts.mjs').Measured, 'bytes'>[]>}
 */
async function randomModels({ randomModelsDir, demoModel, log }) {
  const memoryBytes = await cardMemory();
  const models = [];
  for (const [name, shape] of Object.entries(LARGE_SHAPES)) {
    const bytes = weightBytes(shape);
    if (bytes + LEAST_FREE_BYTES > memoryBytes) continue;
    const folder = path.join(randomModelsDir, `random-${name}`);
    log(`Writing ${folder}, ${(bytes / 1e9).toFixed(1)} GB of random weights`);
    await writeRandomModel({ folder, shape, tokenizerFrom: demoModel });
    models.push({ name, folder, sizes: SIZES });
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
