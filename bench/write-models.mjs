// node bench/write-models.mjs FOLDER: writes models with random weights, to compare families: FOLDER/llama and FOLDER/gemma3_text, of the
// same shape (0.67 GB each), and FOLDER/qwen3_5_text (2.1 GB). --like names the folder with the tokenizer.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../scripts/setup/locations.mjs';
import { DELTA, SHAPES, writeRandomModel } from './random-model.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { like: { type: 'string', default: path.join(ROOT_DIR, 'models/SmolLM2-135M-Instruct') } },
});
const [folder] = positionals;
if (folder === undefined || positionals.length > 1) {
  process.stderr.write('usage: node bench/write-models.mjs FOLDER [--like MODEL]\n');
  process.exit(2);
}
const models = /** @type {const} */ ([
  ['llama', SHAPES['334m']],
  ['gemma3_text', SHAPES['334m']],
  ['qwen3_5_text', DELTA],
]);
for (const [family, shape] of models) {
  const model = path.join(folder, family);
  await writeRandomModel(model, { family, shape, tokenizerFrom: values.like });
  process.stdout.write(`${model}\n`);
}
