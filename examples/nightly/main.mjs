// node examples/nightly/main.mjs --night 1 [--url URL] [--model NAME] [--folder NAME | --vllm URL]: one of three nights of a model that is
// trained every night, on a service that runs. Each night has 200 new rows of examples/dates.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createClient } from '../../packages/client/dist/index.js';
import { runNight } from './night.mjs';

const NAME = 'dates-bot';
const ROWS_OF_A_NIGHT = 200;

const { values } = parseArgs({
  options: {
    night: { type: 'string' },
    url: { type: 'string', default: process.env.LORASMITH_URL ?? 'http://127.0.0.1:8080' },
    model: { type: 'string', default: 'SmolLM2-135M-Instruct' },
    folder: { type: 'string' },
    vllm: { type: 'string' },
  },
});
const night = Number(values.night);
if (![1, 2, 3].includes(night)) {
  console.error('Say which night it is: --night 1, 2 or 3.');
  process.exit(2);
}
const file = (/** @type {string} */ name) => readFile(path.join(import.meta.dirname, '../dates', name), 'utf8');
const rows = (await file('train.jsonl')).split('\n').slice((night - 1) * ROWS_OF_A_NIGHT, night * ROWS_OF_A_NIGHT);

const client = createClient({ baseUrl: values.url, apiKey: process.env.LORASMITH_API_KEY });
const { deliveries } = await runNight(
  client,
  {
    ...{ name: NAME, date: `night ${night}`, baseModel: values.model, maxWorse: 0 },
    ...{ rows: rows.join('\n'), heldOut: await file('heldout.jsonl') },
    deliver: [
      ...(values.folder === undefined ? [] : [{ kind: /** @type {const} */ ('folder'), name: values.folder }]),
      ...(values.vllm === undefined ? [] : [{ kind: /** @type {const} */ ('vllm'), url: values.vllm, name: NAME }]),
    ],
    settings: {
      lora: { target_modules: 'all-linear' },
      training: { epochs: 1, learning_rate: 1e-3, warmup_ratio: 0.05 },
    },
  },
  console.log,
);
for (const { to, status, error } of deliveries)
  console.log(`${to.kind}: ${status}${error === null ? '' : `, ${error.message}`}`);
