import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProductError } from '@lorasmith/contracts';
import { LLAMA_NAMES } from '@lorasmith/model-folder';
import { openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { commonFormBytes } from './common-scale.js';
import { type AdapterBase, readPeftFolder, writePeftFolder } from './peft-folder.js';
import type { PeftShapes } from './peft-weights.js';

const REFERENCE = new URL('../../../test/fixtures/reference/', import.meta.url).pathname;
const CASES = ['llama-tied', 'llama-untied-all-linear', 'qwen2'];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-folder-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** A base with linear layers q, k, v, o, gate, up and down in every layer. */
function llamaBase(layers = 3): AdapterBase {
  const parts = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'];
  const names = Array.from({ length: layers }, (_, layer) =>
    [...parts, 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'].map((part) => `model.layers.${layer}.${part}`),
  ).flat();
  return baseWith('decoder', names);
}

/** The properties that writing an adapter needs, for a base with these linear layers. */
function baseWith(kind: 'decoder' | 'classifier', names: string[], transposed = false): AdapterBase {
  const linears = new Map(names.map((name) => [name, { name, transposed }]));
  return {
    name: 'tiny',
    origin: null,
    architecture: { kind, names: LLAMA_NAMES },
    linears,
    parameters: [],
  } as unknown as AdapterBase;
}

async function readTensors(path: string): Promise<Map<string, { dtype: string; shape: number[]; bytes: Buffer }>> {
  const file = await openSafetensors(path);
  const tensors = new Map();
  for (const { name, dtype, shape } of file.tensors.values()) {
    tensors.set(name, { dtype, shape, bytes: Buffer.from(await file.read(name)) });
  }
  await file.close();
  return tensors;
}

async function copyAdapter(change: Record<string, unknown> = {}): Promise<void> {
  const source = join(REFERENCE, 'llama-tied/adapter_init');
  await cp(source, folder, { recursive: true });
  const config = JSON.parse(await readFile(join(source, 'adapter_config.json'), 'utf8'));
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...change }));
}

describe('an adapter of PEFT', () => {
  test.each(CASES)('%s is written with the same keys and bytes', async (name) => {
    const source = join(REFERENCE, name, 'adapter_init');
    const adapter = await readPeftFolder(source);
    expect(adapter).toMatchObject({ dropout: 0, baseModelNameOrPath: null });
    for (const { rank, scale } of adapter.modules.values()) expect({ rank, scale }).toEqual({ rank: 4, scale: 2 });
    await writePeftFolder(folder, adapter, llamaBase());
    expect(await readTensors(join(folder, 'adapter_model.safetensors'))).toEqual(
      await readTensors(join(source, 'adapter_model.safetensors')),
    );
    const theirs = JSON.parse(await readFile(join(source, 'adapter_config.json'), 'utf8'));
    const ours = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    // PEFT's values, except the base's name and the order of a set.
    const { base_model_name_or_path, target_modules, ...rest } = ours;
    expect(theirs).toMatchObject(rest);
    expect(base_model_name_or_path).toBe('tiny');
    expect(target_modules).toEqual(theirs.target_modules.toSorted());
  });
});

describe('ranks and scales', () => {
  const SELF_ATTENTION = 'model.layers.0.self_attn';

  test('with rsLoRA, the scale is alpha / √r; it is written as alpha / r', async () => {
    await copyAdapter({ use_rslora: true });
    const adapter = await readPeftFolder(folder);
    for (const { scale } of adapter.modules.values()) expect(scale).toBe(8 / Math.sqrt(4));
    expect(await writePeftFolder(folder, adapter, llamaBase())).toMatchObject({ r: 4, alpha: 16 });
    expect(JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'))).toMatchObject({
      r: 4,
      lora_alpha: 16,
    });
  });

  test('alpha_pattern changes the scale of selected modules; it is folded into B when written', async () => {
    const plain = await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_init'));
    // "proj" selects nothing: a key must match complete parts of the name.
    await copyAdapter({
      alpha_pattern: { proj: 1, 'layers\\.[12]\\.self_attn\\.v_proj': 32, 'layers.0.self_attn.v_proj': 2 },
    });
    const adapter = await readPeftFolder(folder);
    const factorOf = (name: string) => (!name.endsWith('v_proj') ? 1 : name.includes('layers.0') ? 2 / 8 : 32 / 8);
    for (const [name, { scale, b }] of adapter.modules) {
      expect(scale).toBe(2 * factorOf(name));
      expect(b).toEqual(plain.modules.get(name)!.b);
    }
    expect(await writePeftFolder(folder, adapter, llamaBase())).toMatchObject({ r: 4, alpha: 8 });
    for (const [name, { scale, b }] of (await readPeftFolder(folder)).modules) {
      expect(scale).toBe(2);
      expect(b).toEqual(plain.modules.get(name)!.b.map((value) => value * factorOf(name)));
    }
  });

  test('with a rank_pattern, lower ranks are padded when written, and have the common scale', async () => {
    const low = { a: Float32Array.of(1, 2, 3), b: Float32Array.of(5, 7) };
    const high = { a: Float32Array.of(1, 0, 2, 0, 3, 0), b: Float32Array.of(1, 0, 0, 2) };
    const bytes = (values: Float32Array) => new Uint8Array(values.buffer);
    const tensor = (name: string, shape: number[], values: Float32Array) =>
      ({
        name: `base_model.model.${SELF_ATTENTION}.${name}.weight`,
        dtype: 'F32',
        shape,
        data: bytes(values),
      }) as const;
    await copyAdapter({ r: 2, lora_alpha: 4, rank_pattern: { q_proj: 1 } });
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      tensor('q_proj.lora_A', [1, 3], low.a),
      tensor('q_proj.lora_B', [2, 1], low.b),
      tensor('v_proj.lora_A', [2, 3], high.a),
      tensor('v_proj.lora_B', [2, 2], high.b),
    ]);
    const adapter = await readPeftFolder(folder);
    // PEFT scales q by 4 / 1 and v by 4 / 2.
    expect(adapter.modules.get(`${SELF_ATTENTION}.q_proj`)).toMatchObject({ rank: 1, scale: 4, ...low });
    expect(adapter.modules.get(`${SELF_ATTENTION}.v_proj`)).toMatchObject({ rank: 2, scale: 2, ...high });
    expect(await writePeftFolder(folder, adapter, llamaBase(1))).toMatchObject({ r: 2, alpha: 4 });
    const written = await readPeftFolder(folder);
    // q's B is doubled to compensate for the scale 4 / 2.
    expect(written.modules.get(`${SELF_ATTENTION}.q_proj`)).toEqual({
      a: Float32Array.of(1, 2, 3, 0, 0, 0),
      b: Float32Array.of(10, 0, 14, 0),
      rank: 2,
      scale: 2,
      inFeatures: 3,
      outFeatures: 2,
    });
    expect(JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8')).rank_pattern).toEqual({});
  });
});

describe('target_modules', () => {
  test('are full names if a suffix would select other modules too', async () => {
    const adapter = await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_init'));
    await writePeftFolder(folder, adapter, llamaBase(4));
    const { target_modules } = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    expect(target_modules).toEqual([...adapter.modules.keys()].sort());
  });

  test('target_modules of a classifier are written without a task type', async () => {
    const adapter = await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_init'));
    const [module] = adapter.modules.values();
    await writePeftFolder(folder, { ...adapter, modules: new Map([['0', module!]]) }, baseWith('classifier', ['0']));
    const config = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ target_modules: ['0'], task_type: null });
  });
});

describe('fan_in_fan_out', () => {
  const GPT2 = new URL('../../../test/fixtures/families/gpt2/adapter_init', import.meta.url).pathname;

  test('is true for a base with weights stored as [in, out], as in PEFT; A and B are the same', async () => {
    const adapter = await readPeftFolder(GPT2);
    expect(adapter.modules.get('transformer.h.0.attn.c_attn')).toMatchObject({ inFeatures: 24, outFeatures: 72 });
    await writePeftFolder(folder, adapter, baseWith('decoder', [...adapter.modules.keys()], true));
    const theirs = JSON.parse(await readFile(join(GPT2, 'adapter_config.json'), 'utf8'));
    const ours = JSON.parse(await readFile(join(folder, 'adapter_config.json'), 'utf8'));
    expect([theirs.fan_in_fan_out, ours.fan_in_fan_out]).toEqual([true, true]);
    expect(await readTensors(join(folder, 'adapter_model.safetensors'))).toEqual(
      await readTensors(join(GPT2, 'adapter_model.safetensors')),
    );
  });

  test('is ignored for weights stored as [out, in], as in PEFT', async () => {
    await copyAdapter({ fan_in_fan_out: true });
    const adapter = await readPeftFolder(folder);
    expect(adapter).toEqual(await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_init')));
  });
});

describe('rejected by name', () => {
  test.each([
    ['peft_type', 'IA3'],
    ['use_dora', true],
    ['bias', 'all'],
    ['modules_to_save', ['lm_head']],
    ['lora_bias', true],
    ['layer_replication', [[0, 2]]],
    ['target_parameters', ['experts.weight']],
    ['target_parameters', ['mlp.gate_up_proj']],
    ['target_parameters', 'experts.down_proj'],
    ['target_parameters', [1]],
    ['target_parameters', ['mlp.experts.down_proj']],
    ['init_lora_weights', 'pissa'],
    ['r', 0],
    ['r', 2.5],
    ['lora_alpha', '8'],
    ['lora_dropout', 1],
    ['rank_pattern', { q_proj: -1 }],
    ['rank_pattern', [1]],
    ['alpha_pattern', { '(?=q)': 1 }],
  ])('%s: %j', async (field, value) => {
    await copyAdapter({ [field]: value });
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter', param: field });
    await expect(readPeftFolder(folder)).rejects.toThrow(field);
  });

  test.each(['peft_type', 'use_dora', 'bias', 'init_lora_weights', 'r', 'lora_dropout'])(
    'deeply nested lists as %s',
    async (field) => {
      await copyAdapter({ [field]: 'HERE' });
      const file = join(folder, 'adapter_config.json');
      const nested = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
      await writeFile(file, (await readFile(file, 'utf8')).replace('"HERE"', nested));
      const message = expect.stringContaining(`${field} is a list`);
      await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter', param: field, message });
    },
  );

  test('a tensor with a long name, which is shortened', async () => {
    await copyAdapter();
    const name = 'x'.repeat(1_000);
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      { name, shape: [4, 1], dtype: 'F32', data: new Uint8Array(16) },
    ]);
    const error = (await readPeftFolder(folder).catch((thrown: unknown) => thrown)) as ProductError;
    expect(error).toMatchObject({ code: 'invalid_adapter', param: name.slice(0, 200) });
    expect(error.message.length).toBeLessThan(400);
  });

  test('shapes that the caller rejects, before any tensor is read', async () => {
    await copyAdapter();
    const rejected = new Error('rejected');
    const check = (shapes: PeftShapes) => {
      expect(commonFormBytes(shapes.values())).toBe(4 * 4 * 480);
      throw rejected;
    };
    await expect(readPeftFolder(folder, { check })).rejects.toBe(rejected);
  });

  test('a pattern with exponential backtracking', async () => {
    await copyAdapter({ alpha_pattern: { '((a|_|[a-z])+)+!': 3 } });
    for (const { scale } of (await readPeftFolder(folder)).modules.values()) expect(scale).toBe(2);
  });

  test('a rank that differs from the config', async () => {
    await copyAdapter({ r: 8 });
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter' });
    await expect(readPeftFolder(folder)).rejects.toThrow(/q_proj.*rank 4.*8/);
  });

  test.each([
    ['base_model.model.x.lora_magnitude_vector', [2], 'F32'],
    ['base_model.model.x.lora_B.bias', [2], 'F32'],
    ['model.x.lora_A.weight', [2, 2], 'F32'],
    ['base_model.model.x.lora_A.weight', [2, 2], 'I32'],
    ['base_model.model.x.lora_A.weight', [4], 'F32'],
  ] as const)('the tensor %s %j %s', async (name, shape, dtype) => {
    await copyAdapter();
    const sizeBytes = shape.reduce((product: number, size) => product * size, 4);
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      { name, shape, dtype, data: new Uint8Array(sizeBytes) },
    ]);
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter', param: name });
  });

  test('an A without a B', async () => {
    await copyAdapter();
    const name = 'base_model.model.x.lora_A.weight';
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      { name, shape: [4, 1], dtype: 'F32', data: new Uint8Array(16) },
    ]);
    await expect(readPeftFolder(folder)).rejects.toThrow('base_model.model.x.lora_B.weight is missing');
  });

  test.each([
    ['adapter_config.json', '{'],
    ['adapter_config.json', '[]'],
    ['adapter_config.json', Buffer.from([0x7b, 0xff, 0x7d])],
    ['adapter_model.safetensors', 'not a safetensors file'],
  ])('an invalid %s', async (name, content) => {
    await copyAdapter();
    await writeFile(join(folder, name), content);
    await expect(readPeftFolder(folder)).rejects.toMatchObject({ code: 'invalid_adapter' });
    await expect(readPeftFolder(folder)).rejects.toThrow(name);
  });

  test.each(['adapter_config.json', 'adapter_model.safetensors'])('a missing %s', async (name) => {
    await copyAdapter();
    await rm(join(folder, name));
    await expect(readPeftFolder(folder)).rejects.toThrow(name);
  });
});
