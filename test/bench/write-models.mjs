// node test/bench/write-models.mjs FOLDER [NAME …]: writes models with random weights, those that are named or all: llama and gemma3_text, of
// the same shape (0.67 GB each), llama-nf4, the same in 4 bits, llama-1b (2.15 GB), qwen3_5_text (2.1 GB) and qwen3_moe (2 GB). --like names
// the folder with the tokenizer.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { DELTA, MIXTURE, SHAPES, writeRandomModel } from './random-model.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { like: { type: 'string', default: path.join(ROOT_DIR, 'models/SmolLM2-135M-Instruct') } },
});
const [folder, ...names] = positionals;
const models = /** @type {const} */ ([
  { name: 'llama', family: 'llama', shape: SHAPES['334m'] },
  { name: 'llama-nf4', family: 'llama', shape: SHAPES['334m'], inNf4: true },
  { name: 'gemma3_text', family: 'gemma3_text', shape: SHAPES['334m'] },
  { name: 'llama-1b', family: 'llama', shape: SHAPES['1b'] },
  { name: 'qwen3_5_text', family: 'qwen3_5_text', shape: DELTA },
  { name: 'qwen3_moe', family: 'qwen3_moe', shape: MIXTURE },
]);
const known = models.map(({ name }) => name);
if (folder === undefined || names.some((name) => !known.some((one) => one === name))) {
  process.stderr.write(
    `usage: node test/bench/write-models.mjs FOLDER [NAME …] [--like MODEL]\nnames: ${known.join(', ')}\n`,
  );
  process.exit(2);
}
for (const { name, ...options } of models) {
  if (names.length > 0 && !names.includes(name)) continue;
  const model = path.join(folder, name);
  await writeRandomModel(model, { ...options, tokenizerFrom: values.like });
  process.stdout.write(`${model}\n`);
}
