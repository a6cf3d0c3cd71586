// Trains a tiny llama with the compiled packages on the engine that ENGINE names, and prints its losses and the digest of its
// adapter as JSON. node train-main.mjs FOLDER float32|bfloat16
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openExampleStore } from '../../packages/planning/dist/index.js';
import { BaseModelCache, chooseKernels, engine, train } from '../../packages/training/dist/index.js';
import { jobSpecOf } from '../../services/api/dist/jobs/job-inputs.js';
import { datasetOf } from '../bench/rows.mjs';
import { writeTinyLlama } from '../tiny-llama.mjs';

const [folder = '', precision = 'float32'] = process.argv.slice(2);

await mkdir(folder, { recursive: true });
const cache = new BaseModelCache(chooseKernels('fused'));
await writeTinyLlama(path.join(folder, 'base'));
const rows = Array.from({ length: 12 }, (_, i) => ({
  prompt: `count to ${i % 6}`,
  completion: Array.from({ length: (i % 6) + 1 }, (_number, number) => number).join(' '),
}));
const { text, dataset } = datasetOf(rows, 'prompt_completion');
const rowsFile = path.join(folder, 'rows.jsonl');
await writeFile(rowsFile, text);
const { result } = await train({
  cache,
  spec: jobSpecOf({
    base_model: 'base',
    dataset: dataset.id,
    validation: { split: 0.2 },
    lora: { r: 4, alpha: 8, dropout: 0.1, target_modules: 'all-linear' },
    training: {
      ...{ epochs: 2, batch_size: 2, gradient_accumulation_steps: 2, learning_rate: 1e-2 },
      precision: /** @type {any} */ (precision),
    },
  }),
  modelFolder: path.join(folder, 'base'),
  dataset,
  rowsFile,
  // The type check sees the sources of one package and the build of the other.
  examples: /** @type {any} */ (await openExampleStore({ dataDir: folder, maxBytes: 0 })),
  checkpointFolder: path.join(folder, 'checkpoints'),
  outputFolder: folder,
  initialAdapterFolder: null,
  signal: new AbortController().signal,
  onEvent() {},
});
const adapter = createHash('sha256').update(await readFile(path.join(folder, 'adapter_model.safetensors')));
const { losses, evaluation_after } = result;
console.log(
  JSON.stringify({ engine: engine.kind, losses, evaluation: evaluation_after?.loss, adapter: adapter.digest('hex') }),
);
