// node examples/sweep/main.mjs: a sweep over eight learning rates on the demo model, then a training of its own for each of them.
// Prints a table and writes docs/pictures/sweep-rates.svg. It starts a service of its own, in a folder that it removes.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient } from '../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { compareRates, pictureOf } from './compare.mjs';

const RATES = [3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2];

const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-sweep-'));
const modelsDir = path.resolve(ROOT_DIR, process.env.MODELS_DIR || 'models');
const stack = await startStack({ dataDir: folder, modelsDir, env: { ...process.env, REDIS_URL: '' } });
try {
  const client = createClient({ baseUrl: stack.apiUrl });
  const file = path.join(import.meta.dirname, 'problems.jsonl');
  const dataset = await client.uploadDataset({ file }, { name: 'problems' });
  const job = {
    base_model: DEMO_MODEL_NAME,
    dataset: dataset.id,
    validation: { split: 0.1 },
    training: { batch_size: 4, max_steps: 12, warmup_ratio: 0.1, max_seq_length: 256 },
  };
  const say = (/** @type {string} */ text) => process.stdout.write(`${text}\n`);
  const { best, compared } = await compareRates(client, { job, rates: RATES, onProgress: say });
  say('\n| learning rate | in the sweep | alone |\n| ---: | ---: | ---: |');
  const text = (/** @type {number | null} */ loss) => (loss === null ? 'failed' : loss.toFixed(4));
  for (const { rate, inSweep, alone } of compared) say(`| ${rate} | ${text(inSweep)} | ${text(alone)} |`);
  say(`\nThe sweep says that ${best} is the best.`);
  await writeFile(path.join(ROOT_DIR, 'docs/pictures/sweep-rates.svg'), pictureOf({ best, compared }));
} finally {
  await stack.stop();
  await rm(folder, { recursive: true, force: true });
}
