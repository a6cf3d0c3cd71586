import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { WeightDigests } from './base-digests.js';
import { readModelFolder } from './model-folder.js';

const root = new URL('../../../', import.meta.url).pathname;
const reference = join(root, 'test/fixtures/reference/smollm2');
const model = join(process.env.MODELS_DIR ?? join(root, 'models'), 'SmolLM2-135M-Instruct');
const isThere = existsSync(join(model, 'config.json'));
if (!isThere) console.warn(`skipped: ${model} is not there; \`npm test\` makes the demo model`);

const readJson = async (folder: string, file: string) => JSON.parse(await readFile(join(folder, file), 'utf8'));

/** Fields that record the program that wrote the file; they are not settings. */
const provenance = ['transformers_version', 'backend', 'is_local', 'local_files_only', 'tokenizer_class'];

async function settingsOf(file: string) {
  const settings = Object.entries(await readJson(reference, file));
  return Object.fromEntries(settings.filter(([name]) => !provenance.includes(name)));
}

describe.skipIf(!isThere)('the demo model, converted from its GGUF', () => {
  test('has the same config as in transformers', async () => {
    expect(await readJson(model, 'config.json')).toMatchObject(await settingsOf('config.json'));
  });

  test('has the same generation config as in transformers', async () => {
    // Fields that are false by default are omitted.
    const { output_attentions: _, output_hidden_states: __, ...settings } = await settingsOf('generation_config.json');
    expect(await readJson(model, 'generation_config.json')).toMatchObject(settings);
  });

  test('has its special tokens and chat template', async () => {
    // This length means "no limit", the same as omitting the field.
    const { model_max_length: _, ...settings } = await settingsOf('tokenizer_config.json');
    expect(await readJson(model, 'tokenizer_config.json')).toMatchObject(settings);
    const template = await readFile(join(reference, 'chat_template.jinja'), 'utf8');
    expect(await readFile(join(model, 'chat_template.jinja'), 'utf8')).toBe(template);
    expect((await readJson(model, 'tokenizer_config.json')).chat_template).toBe(template);
  });

  test('has 134,515,008 parameters, bit for bit the same as in gguf-py', async () => {
    const folder = await readModelFolder(model);
    expect(folder).toMatchObject({ parameterCount: 134_515_008, dtype: 'bfloat16', headModule: { name: 'lm_head' } });
    expect(folder.modules).toHaveLength(210);
    // Every tensor of this digest was compared with the dequantization of gguf-py 0.19.0, with q and k unpermuted and
    // rounded to bfloat16 by numpy.
    expect(await new WeightDigests(null).compute(folder)).toBe(
      '7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b',
    );
  });
});
