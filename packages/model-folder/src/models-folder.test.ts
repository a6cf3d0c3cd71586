import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BaseModel, BaseModelDetail } from '@lorasmith/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeModel, listModelFolders, openBaseModel } from './models-folder.js';

const reference = new URL('../../../test/fixtures/reference/', import.meta.url).pathname;
let modelsDir: string;
beforeAll(async () => {
  modelsDir = await mkdtemp(join(tmpdir(), 'models-'));
  await cp(join(reference, 'qwen2', 'base'), join(modelsDir, 'tiny-qwen'), { recursive: true });
  await mkdir(join(modelsDir, 'broken'));
  await writeFile(join(modelsDir, 'broken', 'config.json'), '{"model_type": "mamba"}');
  await writeFile(join(modelsDir, 'broken', 'model.safetensors'), 'x'.repeat(50));
  await symlink(join(reference, 'llama-tied', 'base'), join(modelsDir, 'linked'));
  await symlink(join(modelsDir, 'nowhere'), join(modelsDir, 'dangling'));
  await mkdir(join(modelsDir, '.partial-1234'));
  await writeFile(join(modelsDir, 'README.md'), 'not a model');
});
afterAll(() => rm(modelsDir, { recursive: true }));

/** Exactly the fields of the contract. */
const fieldsOf = (schema: { properties: object }) => Object.keys(schema.properties).sort();

test('lists folders and links to folders; an invalid model has a problem', async () => {
  const models = await listModelFolders(modelsDir);
  expect(models.map(({ name }) => name)).toEqual(['broken', 'linked', 'tiny-qwen']);
  for (const model of models) expect(Object.keys(model).sort()).toEqual(fieldsOf(BaseModel));
  expect(models[0]).toMatchObject({
    family: null,
    parameters: null,
    bytes: 50,
    target_modules: [],
    problem: { code: 'model_not_supported', message: expect.stringContaining('model_type "mamba"') },
  });
  expect(models[2]).toMatchObject({
    family: 'qwen2',
    parameters: 68_160,
    dtype: 'float32',
    max_positions: 256,
    target_modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj', 'lm_head'],
    problem: null,
    origin: null,
  });
});

test('a missing models folder has no models', async () => {
  expect(await listModelFolders(join(modelsDir, 'none'))).toEqual([]);
});

test('describes a model with its modules, and an invalid one with its problem', async () => {
  const detail = await describeModel(modelsDir, 'tiny-qwen');
  expect(Object.keys(detail).sort()).toEqual(fieldsOf(BaseModelDetail));
  expect(detail.modules).toHaveLength(22);
  expect(detail.modules.at(-1)?.name).toBe('lm_head');
  expect(await describeModel(modelsDir, 'broken')).toMatchObject({
    problem: { code: 'model_not_supported' },
    modules: [],
    expert_parameters: [],
    text: null,
  });
});

test('describes how a model reads text, whatever state the files of its tokenizer are in', async () => {
  const textOf = async (config: string | null, template?: string) => {
    const folder = join(modelsDir, 'tiny-qwen');
    const files = { 'tokenizer_config.json': config, 'chat_template.jinja': template ?? null };
    for (const [name, content] of Object.entries(files)) {
      if (content === null) await rm(join(folder, name), { force: true });
      else await writeFile(join(folder, name), content);
    }
    return (await describeModel(modelsDir, 'tiny-qwen')).text!;
  };
  const none = { bos_token: null, eos_token: null, pad_token: null, chat_template: null, problem: null };
  const { vocab_size, ...empty } = await textOf(null);
  expect(vocab_size).toBeGreaterThan(0);
  expect(empty).toEqual(none);
  const config = { bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: '{{ messages }}' };
  const named = { ...none, vocab_size, bos_token: '<s>', eos_token: '</s>' };
  expect(await textOf(JSON.stringify(config))).toEqual({ ...named, chat_template: '{{ messages }}' });
  const long = await textOf(JSON.stringify(config), `{# ${'x'.repeat(70_000)} #}`);
  expect(long.chat_template).toHaveLength(65_536);
  expect(await textOf('{"bos')).toMatchObject({ ...none, problem: { code: 'model_file_corrupt' } });
  await textOf(null);
});

test('opens a model', async () => {
  expect(await openBaseModel(modelsDir, 'tiny-qwen')).toMatchObject({ name: 'tiny-qwen', parameterCount: 68_160 });
  await expect(openBaseModel(modelsDir, 'broken')).rejects.toMatchObject({ code: 'model_not_supported' });
});

test.each([
  'absent',
  '..',
  '../models',
  'tiny-qwen/../broken',
  'tiny-qwen/',
  '%2e%2e',
  '.partial-1234',
  'README.md',
  'dangling',
  'tiny-qwen\0',
  '',
  'a'.repeat(5000),
])('%j is not found, and the error lists the existing models', async (name) => {
  // Start each call only when it is awaited: a rejection without a handler would end the test run.
  for (const open of [openBaseModel, describeModel]) {
    await expect(open(modelsDir, name)).rejects.toMatchObject({
      code: 'model_not_found',
      param: 'base_model',
      message: expect.stringContaining('broken, linked, tiny-qwen'),
    });
  }
});
