// node examples/training-loop/main.mjs [--url URL] [--model NAME]: a loop of one's own on the pairs of examples/preferences, on a service
// that runs.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createClient } from '../../packages/client/dist/index.js';
import { trainOnPairs } from './preference-loop.mjs';

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: process.env.LORASMITH_URL ?? 'http://127.0.0.1:8080' },
    model: { type: 'string', default: 'SmolLM2-135M-Instruct' },
  },
});
const client = createClient({ baseUrl: values.url, apiKey: process.env.LORASMITH_API_KEY });
const file = path.join(import.meta.dirname, '../preferences/pairs.jsonl');
const { saved } = await trainOnPairs(
  client,
  {
    ...{ dataset: (await client.uploadDataset({ file })).id, baseModel: values.model, name: 'iso-dates' },
    ...{ steps: 10, batchSize: 6, rank: 8, beta: 0.1, step: { learning_rate: 2e-4 } },
  },
  console.log,
);
console.log(`${saved.adapter} is saved, as ${saved.path}`);
