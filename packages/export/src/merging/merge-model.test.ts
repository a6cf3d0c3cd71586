import { createHash } from 'node:crypto';
import { truncateSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import { type PeftAdapter, type PeftModule, readPeftFolder } from '@lorasmith/peft-files';
import { type FloatDtype, fromFloat32, openSafetensors, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { mergeModel } from './merge-model.js';

const REFERENCE = new URL('../../../../test/fixtures/reference/', import.meta.url).pathname;

let base: string;
let output: string;
beforeEach(async () => {
  base = join(await mkdtemp(join(tmpdir(), 'merge-')), 'base');
  output = join(base, '../output');
  await mkdir(output);
});
afterEach(() => rm(join(base, '..'), { recursive: true }));

interface ReadTensor {
  dtype: string;
  shape: readonly number[];
  values: Float32Array;
}

async function readTensors(path: string): Promise<Map<string, ReadTensor>> {
  const file = await openSafetensors(path);
  const tensors = new Map<string, ReadTensor>();
  for (const { name, dtype, shape } of file.tensors.values()) {
    if (dtype === 'I32') continue;
    tensors.set(name, { dtype, shape, values: toFloat32(await file.read(name), dtype) });
  }
  await file.close();
  return tensors;
}

function greatestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((greatest, value, index) => Math.max(greatest, Math.abs(value - b[index]!)), 0);
}

/** Writes the case's base with its weights in another dtype. */
async function rewriteBase(name: string, dtype: FloatDtype): Promise<void> {
  await cp(join(REFERENCE, name, 'base'), base, { recursive: true });
  const tensors = [...(await readTensors(join(base, 'model.safetensors')))];
  await writeSafetensors(
    join(base, 'model.safetensors'),
    tensors.map(([tensor, { shape, values }]) => ({ name: tensor, dtype, shape, data: fromFloat32(values, dtype) })),
  );
}

describe('the result of PEFT', () => {
  test.each(['llama-tied', 'llama-untied-all-linear', 'qwen2'])('%s, every tensor', async (name) => {
    const model = await readModelFolder(join(REFERENCE, name, 'base'));
    const adapter = await readPeftFolder(join(REFERENCE, name, 'adapter_trained'));
    const progress: number[] = [];
    const files = await mergeModel({
      model,
      adapter,
      outputFolder: output,
      onProgress: (done, total) => progress.push(done / total),
    });
    const ours = await readTensors(join(output, 'model.safetensors'));
    const theirs = await readTensors(join(REFERENCE, name, 'merged/model.safetensors'));
    expect([...ours.keys()].sort()).toEqual([...theirs.keys()].sort());
    for (const [tensor, { dtype, shape, values }] of theirs) {
      expect(ours.get(tensor)).toMatchObject({ dtype, shape });
      expect(greatestDifference(ours.get(tensor)!.values, values), tensor).toBeLessThan(1e-5);
    }
    // Check that the merge has an effect: trained weights differ from the base by more than the tolerance.
    const [adapted] = adapter.modules.keys();
    const untouched = await readTensors(join(model.path, 'model.safetensors'));
    const weight = `${adapted}.weight`;
    expect(greatestDifference(ours.get(weight)!.values, untouched.get(weight)!.values)).toBeGreaterThan(1e-3);
    expect((await readdir(output)).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors']);
    for (const companion of ['config.json', 'generation_config.json']) {
      expect(await readFile(join(output, companion))).toEqual(await readFile(join(model.path, companion)));
    }
    const written = await readFile(join(output, 'model.safetensors'));
    const sha256 = createHash('sha256').update(written).digest('hex');
    expect(files).toEqual([{ name: 'model.safetensors', bytes: written.byteLength, sha256 }]);
    expect(progress.at(-1)).toBe(1);
  });

  test('the classifier of linear/', async () => {
    const tensors = await readTensors(join(REFERENCE, 'linear/classifier.safetensors'));
    const { layers, activation, r, alpha } = JSON.parse(
      await readFile(join(REFERENCE, 'linear/classifier.json'), 'utf8'),
    );
    await mkdir(base);
    await writeFile(join(base, 'config.json'), JSON.stringify({ model_type: 'classifier', layers, activation }));
    await writeFile(join(base, 'special_tokens_map.json'), '{"eos_token": "</s>"}');
    const names = ['0.weight', '0.bias', '2.weight', '2.bias'];
    await writeSafetensors(
      join(base, 'model.safetensors'),
      names.map((name) => {
        const { shape, values } = tensors.get(name)!;
        return { name, dtype: 'F32', shape, data: fromFloat32(values, 'F32') };
      }),
    );
    const modules = new Map<string, PeftModule>();
    for (const name of ['0', '2']) {
      const a = tensors.get(`trained.${name}.lora_A`)!;
      const b = tensors.get(`trained.${name}.lora_B`)!;
      const sizes = { rank: r, scale: alpha / r, inFeatures: a.shape[1]!, outFeatures: b.shape[0]! };
      modules.set(name, { a: a.values, b: b.values, ...sizes });
    }
    const adapter: PeftAdapter = { dropout: 0, modules, baseModelNameOrPath: null };
    await mergeModel({ model: await readModelFolder(base), adapter, outputFolder: output });
    const merged = await readTensors(join(output, 'model.safetensors'));
    for (const name of ['0.weight', '2.weight']) {
      const expected = tensors.get(`merged.${name}`)!.values;
      expect(greatestDifference(merged.get(name)!.values, expected), name).toBeLessThan(1e-5);
    }
    for (const name of ['0.bias', '2.bias']) expect(merged.get(name)).toEqual(tensors.get(name));
    expect(await readFile(join(output, 'special_tokens_map.json'), 'utf8')).toBe('{"eos_token": "</s>"}');
  });
});

describe.each(['BF16', 'F16'] as const)('a base in %s', (dtype) => {
  test('is merged in float32 and rounded once', async () => {
    await rewriteBase('llama-tied', dtype);
    const adapter = await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_trained'));
    await mergeModel({ model: await readModelFolder(base), adapter, outputFolder: output });
    const before = await readTensors(join(base, 'model.safetensors'));
    const merged = await readTensors(join(output, 'model.safetensors'));
    let inexact = 0;
    let numbers = 0;
    for (const [name, { values }] of before) {
      const module = adapter.modules.get(name.replace(/\.weight$/, ''));
      const ours = merged.get(name)!;
      expect(ours.dtype).toBe(dtype);
      const exact = module ? mergedInDouble(values, module) : values;
      const expected = toFloat32(fromFloat32(exact, dtype), dtype);
      // A sum in a different order can round to the adjacent number.
      ours.values.forEach((value, index) => {
        numbers++;
        if (value !== expected[index]) inexact++;
        const spacing = 2 ** (Math.floor(Math.log2(Math.abs(expected[index]!) || 1e-9)) - (dtype === 'BF16' ? 7 : 10));
        expect(Math.abs(value - expected[index]!)).toBeLessThanOrEqual(spacing);
      });
    }
    // Rounding twice, or computing B A in bfloat16, would differ far more often.
    expect(inexact / numbers).toBeLessThan(0.001);
  });
});

function mergedInDouble(weight: Float32Array, module: PeftModule): Float32Array {
  const { a, b, rank, scale, inFeatures } = module;
  return weight.map((value, index) => {
    const row = Math.floor(index / inFeatures);
    let update = 0;
    for (let k = 0; k < rank; k++) update += b[row * rank + k]! * a[k * inFeatures + (index % inFeatures)]!;
    return value + scale * update;
  });
}

test('weights over the limit are split into shards, which are read as the same model', async () => {
  const model = await readModelFolder(join(REFERENCE, 'llama-untied-all-linear/base'));
  const adapter = await readPeftFolder(join(REFERENCE, 'llama-untied-all-linear/adapter_trained'));
  const files = await mergeModel({ model, adapter, outputFolder: output, maxShardBytes: 100_000 });
  const sharded = await readModelFolder(output);
  expect(sharded.files.length).toBeGreaterThan(1);
  for (const { name, sha256 } of files) {
    const written = await readFile(join(output, name));
    expect(createHash('sha256').update(written).digest('hex')).toBe(sha256);
  }
  expect(files.map(({ name }) => name)).toEqual(sharded.files.map(({ name }) => name));
  expect([...sharded.tensors.keys()].sort()).toEqual([...model.tensors.keys()].sort());
  const count = String(sharded.files.length).padStart(5, '0');
  expect(sharded.files[0]!.name).toBe(`model-00001-of-${count}.safetensors`);
  const index = JSON.parse(await readFile(join(output, 'model.safetensors.index.json'), 'utf8'));
  const dataBytes = [...model.tensors.values()].reduce((sum, { entry }) => sum + entry.byteLength, 0);
  expect(index.metadata.total_size).toBe(dataBytes);
  const theirs = await readTensors(join(REFERENCE, 'llama-untied-all-linear/merged/model.safetensors'));
  for (const file of sharded.files) {
    for (const [name, { values }] of await readTensors(file.path)) {
      expect(greatestDifference(values, theirs.get(name)!.values), name).toBeLessThan(1e-5);
    }
  }
});

test('files of the base that may not be written are copied as ones that may', async () => {
  await cp(join(REFERENCE, 'llama-tied', 'base'), base, { recursive: true });
  await chmod(join(base, 'config.json'), 0o444);
  const adapter = await readPeftFolder(join(REFERENCE, 'llama-tied', 'adapter_trained'));
  await mergeModel({ model: await readModelFolder(base), adapter, outputFolder: output });
  expect((await stat(join(output, 'config.json'))).mode & 0o777).toBe(0o644);
});

test('a separate head keeps its weights although config.json ties it, and the merged config unties it', async () => {
  const folder = new URL('../../../../test/fixtures/families/tied-head-differs/', import.meta.url).pathname;
  const model = await readModelFolder(join(folder, 'base'));
  await mergeModel({ model, adapter: await readPeftFolder(join(folder, 'adapter_trained')), outputFolder: output });
  const before = await readTensors(join(folder, 'base/model.safetensors'));
  const merged = await readTensors(join(output, 'model.safetensors'));
  for (const name of ['lm_head.weight', 'model.embed_tokens.weight'])
    expect(merged.get(name)).toEqual(before.get(name));
  const config = async (path: string) => JSON.parse(await readFile(join(path, 'config.json'), 'utf8'));
  expect(await config(output)).toEqual({ ...(await config(model.path)), tie_word_embeddings: false });
});

describe('an adapter of the head that is the embedding unties the merged model', () => {
  const [HEAD, EMBEDDING] = ['lm_head.weight', 'model.embed_tokens.weight'];
  const adapterOfHead = (): PeftAdapter => {
    const [rank, inFeatures, outFeatures] = [2, 48, 160];
    const a = Float32Array.from({ length: rank * inFeatures }, (_, i) => Math.sin(i));
    const b = Float32Array.from({ length: outFeatures * rank }, (_, i) => Math.cos(i));
    return {
      dropout: 0,
      baseModelNameOrPath: null,
      modules: new Map([['lm_head', { a, b, rank, scale: 0.5, inFeatures, outFeatures }]]),
    };
  };

  test.each(['an embedding alone', 'both, which are equal', 'a head alone'])('files with %s', async (which) => {
    await cp(join(REFERENCE, 'llama-tied', 'base'), base, { recursive: true });
    const before = await readTensors(join(base, 'model.safetensors'));
    const embedding = before.get(EMBEDDING)!;
    if (which !== 'an embedding alone') before.set(HEAD, embedding);
    if (which === 'a head alone') before.delete(EMBEDDING);
    const tensors = [...before].map(([name, { shape, values }]) => {
      return { name, dtype: 'F32' as const, shape, data: fromFloat32(values, 'F32') };
    });
    await writeSafetensors(join(base, 'model.safetensors'), tensors);
    const model = await readModelFolder(base);
    expect(model.architecture).toMatchObject({ tiedHead: true });
    const adapter = adapterOfHead();
    await mergeModel({ model, adapter, outputFolder: output });
    const merged = await readModelFolder(output);
    expect(merged).toMatchObject({ architecture: { tiedHead: false }, untiedByFiles: false });
    expect([...merged.tensors.keys()].sort()).toEqual([...new Set([...before.keys(), HEAD, EMBEDDING])].sort());
    const after = await readTensors(join(output, 'model.safetensors'));
    for (const [name, tensor] of before) if (name !== HEAD) expect(after.get(name), name).toEqual(tensor);
    expect(after.get(EMBEDDING)).toEqual(embedding);
    const expected = mergedInDouble(embedding.values, adapter.modules.get('lm_head')!);
    expect(greatestDifference(after.get(HEAD)!.values, expected)).toBeLessThan(1e-6);
    expect(greatestDifference(after.get(HEAD)!.values, embedding.values)).toBeGreaterThan(0.1);
  });

  test('its language model too in a composite', async () => {
    const folder = new URL('../../../../test/fixtures/families/gemma3/base/', import.meta.url).pathname;
    const model = await readModelFolder(folder);
    const { in_features: inFeatures, out_features: outFeatures } = model.headModule!;
    const [a, b] = [new Float32Array(inFeatures).fill(0.1), new Float32Array(outFeatures).fill(0.1)];
    const modules = new Map([['lm_head', { a, b, rank: 1, scale: 1, inFeatures, outFeatures }]]);
    await mergeModel({ model, adapter: { dropout: 0, baseModelNameOrPath: null, modules }, outputFolder: output });
    const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8'));
    expect(config).toMatchObject({ tie_word_embeddings: false, text_config: { tie_word_embeddings: false } });
    const merged = await readModelFolder(output);
    expect(merged).toMatchObject({ architecture: { tiedHead: false }, untiedByFiles: false });
  });
});

describe('an adapter of experts', () => {
  const CASE = new URL('../../../../test/fixtures/families/qwen3_moe-experts/', import.meta.url).pathname;
  const read = () => readPeftFolder(join(CASE, 'adapter_trained'));
  const GATE_UP = 'model.layers.0.mlp.experts.gate_up_proj';
  const DOWN = 'model.layers.0.mlp.experts.down_proj';

  /** The base with the experts of each layer in two tensors. */
  async function fuseBase(): Promise<void> {
    await cp(join(CASE, 'base'), base, { recursive: true });
    const tensors = await readTensors(join(base, 'model.safetensors'));
    for (const { name, experts, outFeatures, inFeatures, tensors: parts } of (
      await readModelFolder(base)
    ).expertParameters.values()) {
      const values = parts.flatMap((part) => [...tensors.get(part.name)!.values]);
      for (const part of parts) tensors.delete(part.name);
      const shape = [experts, outFeatures, inFeatures];
      tensors.set(name, { dtype: 'F32', shape, values: Float32Array.from(values) });
    }
    await writeSafetensors(
      join(base, 'model.safetensors'),
      [...tensors].map(([name, { shape, values }]) => {
        return { name, dtype: 'F32' as const, shape, data: fromFloat32(values, 'F32') };
      }),
    );
  }

  test('is merged to the same bits into files of each expert and into fused ones', async () => {
    await fuseBase();
    const [each, fused] = [await readModelFolder(join(CASE, 'base')), await readModelFolder(base)];
    const outputs = [output, join(base, '../other')] as const;
    await mkdir(outputs[1]);
    for (const [i, model] of [each, fused].entries()) {
      await mergeModel({ model, adapter: await read(), outputFolder: outputs[i]! });
    }
    const [ofEach, ofFused] = await Promise.all(
      outputs.map((folder) => readTensors(join(folder, 'model.safetensors'))),
    );
    const before = await readTensors(join(base, 'model.safetensors'));
    for (const [name, { tensors }] of each.expertParameters) {
      const values = tensors.flatMap((part) => [...ofEach!.get(part.name)!.values]);
      expect(ofFused!.get(name)!.values, name).toEqual(Float32Array.from(values));
      expect(ofFused!.get(name)!.values, name).not.toEqual(before.get(name)!.values);
    }
  });

  test('of a base in MXFP4 is merged to the bits of its decoded form', async () => {
    const packed = await readModelFolder(join(CASE, '../gpt_oss-mxfp4/base'));
    await mkdir(base);
    await mergeModel({ model: packed, adapter: { ...(await read()), modules: new Map() }, outputFolder: base });
    const config = await readFile(join(base, 'config.json'), 'utf8');
    const { quantization_config, ...others } = JSON.parse(await readFile(join(packed.path, 'config.json'), 'utf8'));
    expect(quantization_config).toBeDefined();
    expect(JSON.parse(config)).toEqual(others);
    // transformers wants no integer there.
    expect(config).toContain('"swiglu_limit": 7.0,');
    const decoded = await readModelFolder(base);
    expect(decoded).toMatchObject({ quantized: new Map(), parameterCount: packed.parameterCount });
    const modules = new Map(
      [...packed.expertParameters].map(([name, { experts, inFeatures, outFeatures }], i): [string, PeftModule] => {
        const a = normalNumbers(experts * 2 * inFeatures, 2 * i);
        const b = normalNumbers(experts * outFeatures * 2, 2 * i + 1);
        return [name, { a, b, rank: 2, scale: 0.1, inFeatures, outFeatures, experts }];
      }),
    );
    const adapter = { ...(await read()), modules };
    const other = join(base, '../other');
    await mkdir(other);
    await mergeModel({ model: packed, adapter, outputFolder: output });
    await mergeModel({ model: decoded, adapter, outputFolder: other });
    const [ofPacked, ofDecoded, before] = await Promise.all(
      [output, other, base].map((folder) => readTensors(join(folder, 'model.safetensors'))),
    );
    expect([...ofPacked!.keys()].sort()).toEqual([...ofDecoded!.keys()].sort());
    for (const [name, { dtype, shape, values }] of ofPacked!) {
      expect({ dtype, shape, values }, name).toEqual(ofDecoded!.get(name));
      if (modules.has(name)) expect(values, name).not.toEqual(before!.get(name)!.values);
    }
  });

  test('with a number that is not finite is refused by the name of its tensor', async () => {
    const adapter = await read();
    const module = adapter.modules.get(DOWN)!;
    // Of the last expert.
    module.b[module.b.length - 1] = Number.NaN;
    const merging = async () => {
      await mergeModel({ model: await readModelFolder(join(CASE, 'base')), adapter, outputFolder: output });
    };
    const message = expect.stringContaining('Merging model.layers.0.mlp.experts.4.down_proj.weight gives');
    await expect(merging()).rejects.toMatchObject({ code: 'merge_not_finite', message });
    await fuseBase();
    const ofFused = mergeModel({ model: await readModelFolder(base), adapter, outputFolder: output });
    await expect(ofFused).rejects.toMatchObject({
      code: 'merge_not_finite',
      message: expect.stringContaining(`Merging ${DOWN} gives`),
    });
  });

  test.each<[string, (modules: PeftAdapter['modules']) => void]>([
    ['fewer experts', (modules) => modules.set(DOWN, ofFewer(modules.get(DOWN)!))],
    ['one matrix for all experts', (modules) => modules.set(DOWN, { ...modules.get(DOWN)!, experts: undefined })],
    ['experts of other sizes', (modules) => modules.set(DOWN, modules.get(GATE_UP)!)],
    [
      'experts where the base has a layer',
      (modules) => modules.set('model.layers.0.self_attn.q_proj', modules.get(DOWN)!),
    ],
    [
      'experts where the base has an MLP',
      (modules) => modules.set('model.layers.1.mlp.experts.down_proj', modules.get(DOWN)!),
    ],
  ])('with %s is refused by name', async (_, change) => {
    const adapter = await read();
    const before = new Map(adapter.modules);
    change(adapter.modules);
    const [name] = [...adapter.modules].find(([module, own]) => before.get(module) !== own)!;
    const merging = mergeModel({
      model: await readModelFolder(join(CASE, 'base')),
      adapter,
      outputFolder: output,
    });
    await expect(merging).rejects.toMatchObject({ code: 'invalid_adapter', message: expect.stringContaining(name) });
    expect(await readdir(output)).toEqual([]);
  });

  /** The matrices of all experts but the last. */
  function ofFewer({ a, b, experts, ...sizes }: PeftModule): PeftModule {
    const fewer = (all: Float32Array) => all.slice(0, (all.length / experts!) * (experts! - 1));
    return { ...sizes, a: fewer(a), b: fewer(b), experts: experts! - 1 };
  }
});

describe('rejects', () => {
  const read = () => readPeftFolder(join(REFERENCE, 'llama-tied/adapter_trained'));
  const model = () => readModelFolder(join(REFERENCE, 'llama-tied/base'));

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 3e38])('%d in an adapter', async (value) => {
    const adapter = await read();
    const [name, module] = [...adapter.modules][2]!;
    module.a.fill(value);
    module.b.fill(value);
    const merging = mergeModel({ model: await model(), adapter, outputFolder: output });
    await expect(merging).rejects.toMatchObject({ code: 'merge_not_finite', message: expect.stringContaining(name) });
    expect(await readdir(output)).toEqual([]);
  });

  test("a number that is finite in float32 but not in the base's float16", async () => {
    await rewriteBase('llama-tied', 'F16');
    const adapter = await read();
    [...adapter.modules.values()][0]!.b[0] = 1e6;
    const merging = mergeModel({ model: await readModelFolder(base), adapter, outputFolder: output });
    await expect(merging).rejects.toMatchObject({ code: 'merge_not_finite' });
  });

  test('an adapter for unknown layers', async () => {
    const adapter = await readPeftFolder(join(REFERENCE, 'llama-tied/adapter_trained'));
    const [module] = adapter.modules.values();
    for (const name of ['model.layers.7.self_attn.q_proj', 'model.norm']) {
      const other = { ...adapter, modules: new Map([[name, module!]]) };
      const merging = mergeModel({ model: await model(), adapter: other, outputFolder: output });
      await expect(merging).rejects.toMatchObject({ code: 'invalid_adapter', message: expect.stringContaining(name) });
    }
  });

  test('an adapter of other sizes', async () => {
    const adapter = await read();
    const k = [...adapter.modules].find(([name]) => name.endsWith('v_proj'))![1];
    adapter.modules.set('model.layers.0.self_attn.q_proj', k);
    const merging = mergeModel({ model: await model(), adapter, outputFolder: output });
    await expect(merging).rejects.toMatchObject({ code: 'invalid_adapter' });
  });

  test('an aborted merge, before a file and in it', async () => {
    const controller = new AbortController();
    const options = { model: await model(), adapter: await read(), outputFolder: output, signal: controller.signal };
    const merging = mergeModel({
      ...options,
      maxShardBytes: 100_000,
      onProgress: () => controller.abort(new Error('enough')),
    });
    await expect(merging).rejects.toThrow('enough');
    expect(await readdir(output)).toEqual(['model-00001-of-00003.safetensors']);
    await rm(join(output, 'model-00001-of-00003.safetensors'));
    await expect(mergeModel(options)).rejects.toThrow('enough');
    expect(await readdir(output)).toEqual([]);
  });

  test('a base that is cut while it is merged', async () => {
    await cp(join(REFERENCE, 'llama-tied/base'), base, { recursive: true });
    const merging = mergeModel({
      model: await readModelFolder(base),
      adapter: await read(),
      outputFolder: output,
      maxShardBytes: 100_000,
      onProgress: () => truncateSync(join(base, 'model.safetensors'), 50_000),
    });
    const message = expect.stringContaining('the file ended while it was read');
    await expect(merging).rejects.toMatchObject({ code: 'model_file_corrupt', message });
    expect(await readdir(output)).toEqual(['model-00001-of-00003.safetensors']);
  });
});
