// node bench/write-pair.mjs FOLDER: writes FOLDER/llama and FOLDER/gemma3_text, random models of the same shape, 0.67 GB each, so that the
// speed of the two families can be compared at equal floating-point work. --like names the folder with the tokenizer.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../scripts/setup/locations.mjs';
import { SMALL, writeRandomModel } from './random-model.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { like: { type: 'string', default: path.join(ROOT_DIR, 'models/SmolLM2-135M-Instruct') } },
});
const [folder] = positionals;
if (folder === undefined || positionals.length > 1) {
  process.stderr.write('usage: node bench/write-pair.mjs FOLDER [--like MODEL]\n');
  process.exit(2);
}
for (const family of /** @type {const} */ (['llama', 'gemma3_text'])) {
  const model = path.join(folder, family);
  await writeRandomModel(model, { family, shape: SMALL, tokenizerFrom: values.like });
  process.stdout.write(`${model}\n`);
}
