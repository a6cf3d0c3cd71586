import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readModelFolder } from './model-folder.js';
import { digestWeights } from './weight-digest.js';

const root = new URL('../../../', import.meta.url).pathname;
const reference = join(root, 'test/fixtures/reference/smollm2');
const model = join(process.env.MODELS_DIR ?? join(root, 'models'), 'SmolLM2-135M-Instruct');
const imported = existsSync(join(model, 'config.json'));
if (!imported) console.warn(`skipped: ${model} is not there; \`npm test\` imports the demo model`);

const readJson = async (folder: string, file: string) => JSON.parse(await readFile(join(folder, file), 'utf8'));

/** Marks of the program that wrote a file, not settings. */
const provenance = ['transformers_version', 'backend', 'is_local', 'local_files_only', 'tokenizer_class'];

async function settingsOf(file: string) {
  const settings = Object.entries(await readJson(reference, file));
  return Object.fromEntries(settings.filter(([name]) => !provenance.includes(name)));
}

describe.skipIf(!imported)('the demo model, imported from its GGUF', () => {
  test('has the config transformers makes of it', async () => {
    expect(await readJson(model, 'config.json')).toMatchObject(await settingsOf('config.json'));
  });

  test('generates as transformers says', async () => {
    // What is false by default is left out.
    const { output_attentions: _, output_hidden_states: __, ...settings } = await settingsOf('generation_config.json');
    expect(await readJson(model, 'generation_config.json')).toMatchObject(settings);
  });

  test('has its special tokens and chat template', async () => {
    // The length stands for "no limit", which is what leaving it out means.
    const { model_max_length: _, ...settings } = await settingsOf('tokenizer_config.json');
    expect(await readJson(model, 'tokenizer_config.json')).toMatchObject(settings);
    const template = await readFile(join(reference, 'chat_template.jinja'), 'utf8');
    expect(await readFile(join(model, 'chat_template.jinja'), 'utf8')).toBe(template);
    expect((await readJson(model, 'tokenizer_config.json')).chat_template).toBe(template);
  });

  test('has 134,515,008 parameters, bit for bit those that gguf-py gives', async () => {
    const folder = await readModelFolder(model);
    expect(folder).toMatchObject({ parameterCount: 134_515_008, dtype: 'bfloat16', headModule: { name: 'lm_head' } });
    expect(folder.modules).toHaveLength(210);
    // Every tensor behind this digest was compared with gguf-py 0.19.0's dequantization, q and k put back into order
    // and rounded to bfloat16 with numpy.
    expect(await digestWeights(folder)).toBe('7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b');
  });
});
