// Measures the tokenizer on rendered conversations, in one thread, and beside it the Node binding of the Rust crate if it is
// installed somewhere. The binding has to give the same ids; the number of rows where it does not is printed.
//
//   node test/bench/tokenizer.mjs --rows ROWS.jsonl --model models/SmolLM2-135M-Instruct
//   npm install --prefix /tmp/native tokenizers@0.23.2
//   node test/bench/tokenizer.mjs --rows ROWS.jsonl --model models/SmolLM2-135M-Instruct --native /tmp/native
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadChatTemplate, loadTokenizer } from '../../packages/model-folder/dist/index.js';

const BATCH = 500;

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: 'examples/dates/train.jsonl' },
    model: { type: 'string', default: 'models/SmolLM2-135M-Instruct' },
    native: { type: 'string' },
  },
});
const template = await loadChatTemplate(values.model);
if (template === null) throw new Error('the model has no chat template');
const lines = (await readFile(values.rows, 'utf8')).split('\n').filter((line) => line !== '');
const conversations = lines.map((line) => JSON.parse(line).messages);
const texts = measured('template', conversations, (messages) =>
  template.render(messages, { addGenerationPrompt: false }),
);

const tokenizer = await loadTokenizer(values.model);
const ids = measured('tokenizer, words not seen before', texts, (text) => tokenizer.encode(text));
measured('tokenizer, words seen before', texts, (text) => tokenizer.encode(text));

if (values.native !== undefined) {
  const { Tokenizer } = createRequire(path.resolve(values.native, 'package.json'))('tokenizers');
  const native = Tokenizer.fromFile(path.join(values.model, 'tokenizer.json'));
  const encoded = /** @type {number[][]} */ ([]);
  const began = start();
  for (let first = 0; first < texts.length; first += BATCH) {
    const batch = await native.encodeBatch(texts.slice(first, first + BATCH), { addSpecialTokens: false });
    for (const encoding of batch) encoded.push(encoding.getIds());
  }
  print('native tokenizer, batches on all cores', began);
  const different = ids.filter((all, row) => all.join() !== encoded[row]?.join());
  console.log(`rows with other ids: ${different.length} of ${ids.length}`);
}

/**
 * @template From, To
 * @param {string} what
 * @param {From[]} inputs
 * @param {(input: From) => To} convert
 */
function measured(what, inputs, convert) {
  const began = start();
  const outputs = inputs.map(convert);
  print(what, began);
  return outputs;
}

function start() {
  return { wallMs: performance.now(), cpu: process.cpuUsage() };
}

/**
 * @param {string} what
 * @param {ReturnType<typeof start>} began
 */
function print(what, began) {
  const megabytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0) / 1e6;
  const { user, system } = process.cpuUsage(began.cpu);
  const wall = megabytes / ((performance.now() - began.wallMs) / 1000);
  const cpu = megabytes / ((user + system) / 1e6);
  console.log(`${what}: ${wall.toFixed(1)} MB of rows per second, ${cpu.toFixed(1)} per second of processor time`);
}
