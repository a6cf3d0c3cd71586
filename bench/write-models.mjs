// node bench/write-models.mjs FOLDER: writes models with random weights, to compare families: FOLDER/llama and FOLDER/gemma3_text, of the
// same shape (0.67 GB each), FOLDER/llama-nf4, the same in 4 bits, FOLDER/qwen3_5_text (2.1 GB) and FOLDER/qwen3_moe (2 GB). --like
// names the folder with the tokenizer.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../scripts/setup/locations.mjs';
import { DELTA, MIXTURE, SHAPES, writeRandomModel } from './random-model.mjs';

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
  { name: 'llama', family: 'llama', shape: SHAPES['334m'] },
  { name: 'llama-nf4', family: 'llama', shape: SHAPES['334m'], inNf4: true },
  { name: 'gemma3_text', family: 'gemma3_text', shape: SHAPES['334m'] },
  { name: 'qwen3_5_text', family: 'qwen3_5_text', shape: DELTA },
  { name: 'qwen3_moe', family: 'qwen3_moe', shape: MIXTURE },
]);
for (const { name, ...options } of models) {
  const model = path.join(folder, name);
  await writeRandomModel(model, { ...options, tokenizerFrom: values.like });
  process.stdout.write(`${model}\n`);
}
