import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { Adapter, AdapterManifest } from '@lorasmith/contracts';
import { ORIGIN_FILE } from '@lorasmith/model-folder';
import { readPeftFolder } from '@lorasmith/peft-files';
import { openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { Value } from 'typebox/value';
import { describe, expect, test } from 'vitest';
import { usualCases } from '../../../test/usual-cases.js';
import {
  adapters,
  INITIAL,
  listen,
  nothingIsLeft,
  peftFiles,
  post,
  root,
  tarOfFolder,
  tensorsOf,
  url,
  useImportingRegistry,
  weights,
  withConfig,
} from './importing-registry.js';
import { faultyProgram } from './merge-program.js';
import { REFERENCE } from './published-adapter.js';
import { tarOf } from './tar-bytes.js';

const run = promisify(execFile);

useImportingRegistry();

describe('an adapter of PEFT', () => {
  test('is published, listed, and downloaded with the same tensors', async () => {
    const { status, headers, body } = await post(await tarOfFolder(INITIAL), '?base_model=llama-tied&name=from-peft');
    expect(status).toBe(201);
    expect(Value.Errors(Adapter, body)).toEqual([]);
    expect(body).toMatchObject({ origin: { kind: 'imported' }, name: 'from-peft', base_model: 'llama-tied' });
    expect(headers.get('location')).toBe(`/adapters/${body.id}`);
    const list = (await (await fetch(`${url}/adapters`)).json()) as { data: Adapter[] };
    expect(list.data).toEqual([body]);

    const manifest = await (await fetch(`${url}/adapters/${body.id}/manifest`)).json();
    expect(Value.Errors(AdapterManifest, manifest)).toEqual([]);
    expect(manifest).toMatchObject({
      version: 1,
      origin: { kind: 'imported' },
      lora: { r: 4, alpha: 8, rank_pattern: {}, alpha_pattern: {} },
    });
    await mkdir(join(root, 'unpacked'));
    await writeFile(
      join(root, 'back.tar'),
      Buffer.from(await (await fetch(`${url}/adapters/${body.id}`)).arrayBuffer()),
    );
    await run('tar', ['-xf', join(root, 'back.tar'), '-C', join(root, 'unpacked')]);
    expect(await tensorsOf(join(root, 'unpacked/adapter_model.safetensors'))).toEqual(
      await tensorsOf(join(INITIAL, 'adapter_model.safetensors')),
    );
    expect(await readdir(join(root, 'data/.staging'))).toEqual([]);
  });

  test('is merged like one that was trained here', async () => {
    const { body } = await post(await tarOfFolder(join(REFERENCE, 'llama-tied/adapter_trained')));
    const response = await fetch(`${url}/adapters/${body.id}?weights=merged&format=safetensors`);
    expect(response.status).toBe(200);
    const file = join(root, 'merged.safetensors');
    await writeFile(file, Buffer.from(await response.arrayBuffer()));
    const ours = await tensorsOf(file);
    const theirs = await tensorsOf(join(REFERENCE, 'llama-tied/merged/model.safetensors'));
    expect([...ours.keys()]).toEqual([...theirs.keys()]);
    let greatest = 0;
    for (const [name, bytes] of theirs) {
      const expected = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      const ourBytes = ours.get(name)!;
      const actual = new Float32Array(ourBytes.buffer, ourBytes.byteOffset, ourBytes.byteLength / 4);
      expected.forEach((value, i) => {
        greatest = Math.max(greatest, Math.abs(value - actual[i]!));
      });
    }
    expect(greatest).toBeLessThan(1e-5);
  });

  test('an adapter of PEFT of the language model alone fits a composite, and gets the names of the class that is served', async () => {
    const composite = join(REFERENCE, '../families/gemma3');
    await cp(join(composite, 'base'), join(root, 'models/gemma3'), { recursive: true });
    const served = await tensorsOf(join(composite, 'adapter_trained/adapter_model.safetensors'));
    for (const path of ['model.', 'language_model.model.', 'language_model.', 'model.language_model.']) {
      const folder = join(root, 'renamed');
      await cp(join(composite, 'adapter_trained'), folder, { recursive: true });
      const opened = await openSafetensors(join(composite, 'adapter_trained/adapter_model.safetensors'));
      const renamed = [...opened.tensors.values()].map(({ name, dtype, shape }) => ({
        name: name.replace('base_model.model.model.language_model.', `base_model.model.${path}`),
        dtype,
        shape: [...shape],
        data: served.get(name)!,
      }));
      await opened.close();
      await writeSafetensors(join(folder, 'adapter_model.safetensors'), renamed, { format: 'pt' });
      const { status, body } = await post(await tarOfFolder(folder), '?base_model=gemma3');
      expect([path, status, body.error]).toEqual([path, 201, undefined]);
      expect(await tensorsOf(join(adapters.folder(body.id), 'adapter_model.safetensors'))).toEqual(served);
    }
  });

  test('an adapter of PEFT with two modules for the same layer of a composite is refused', async () => {
    const composite = join(REFERENCE, '../families/gemma3');
    await cp(join(composite, 'base'), join(root, 'models/gemma3'), { recursive: true });
    const folder = join(root, 'doubled');
    await cp(join(composite, 'adapter_trained'), folder, { recursive: true });
    const opened = await openSafetensors(join(composite, 'adapter_trained/adapter_model.safetensors'));
    const tensors = [];
    for (const { name, dtype, shape } of opened.tensors.values()) {
      const one = { name, dtype, shape: [...shape], data: await opened.read(name) };
      tensors.push(one, { ...one, name: name.replace('.model.language_model.', '.model.') });
    }
    await opened.close();
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors, { format: 'pt' });
    const { status, body } = await post(await tarOfFolder(folder), '?base_model=gemma3');
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain('two modules for model.language_model.layers.');
  });

  test('can be in a folder, and other files beside it are ignored', async () => {
    await cp(INITIAL, join(root, 'my-adapter'), { recursive: true });
    await writeFile(join(root, 'my-adapter/README.md'), '# An adapter');
    await writeFile(join(root, 'my-adapter/optimizer.pt'), 'pickled');
    await mkdir(join(root, 'my-adapter/checkpoint-3'));
    await cp(join(INITIAL, 'adapter_config.json'), join(root, 'my-adapter/checkpoint-3/adapter_config.json'));
    const { status, body } = await post(await tarOfFolder(root, 'my-adapter'));
    expect(status).toBe(201);
    const names = (await adapters.files(body.id)).map(({ name }) => name);
    expect(names).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors', 'manifest.json']);
  });

  test('names its base model with the last part of a path or of a name of the Hugging Face Hub', async () => {
    for (const base of ['llama-tied', 'some-org/llama-tied', '/home/me/models/llama-tied/', 'C:\\models\\llama-tied']) {
      const { status, body } = await post(withConfig({ base_model_name_or_path: base }), '');
      expect([base, status]).toEqual([base, 201]);
      expect(body.base_model).toBe('llama-tied');
    }
    expect(await post(withConfig({ base_model_name_or_path: null }), '')).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid_request', param: 'base_model' } },
    });
    expect(await post(withConfig({ base_model_name_or_path: '../..' }), '')).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found' } },
    });
  });

  test('of a base model from the hub names its repository and commit, and is imported again by them', async () => {
    const repo = 'some-org/Llama-Tied';
    const commits = { 'of-a': 'a'.repeat(40), 'of-b': 'b'.repeat(40) };
    for (const [model, commit] of Object.entries(commits)) {
      await cp(join(root, 'models/llama-tied'), join(root, 'models', model), { recursive: true });
      await writeFile(join(root, 'models', model, ORIGIN_FILE), JSON.stringify({ repo, revision: 'main', commit }));
    }
    for (const [model, commit] of Object.entries(commits)) {
      const { body } = await post(tarOf(peftFiles()), `?base_model=${model}`);
      const config = await readFile(adapters.path(body.id, 'adapter_config.json'), 'utf8');
      expect(JSON.parse(config)).toMatchObject({ base_model_name_or_path: repo, revision: commit });
      expect(await readFile(adapters.path(body.id, 'README.md'), 'utf8')).toContain(`base_model: "${repo}"`);
      const { base_model } = (await (await fetch(`${url}/adapters/${body.id}/manifest`)).json()) as AdapterManifest;
      expect(base_model).toMatchObject({ name: model, origin: { repo, revision: 'main', commit } });
      const again = await post(await tarOfFolder(adapters.folder(body.id)), '');
      expect([again.status, again.body.base_model]).toEqual([201, model]);
    }
    // PEFT writes no commit.
    expect((await post(withConfig({ base_model_name_or_path: repo, revision: null }), '')).body.base_model).toBe(
      'of-a',
    );
  });

  test('an adapter of PEFT with patterns gets one rank and one scale in its files, and the original ones in the manifest', async () => {
    const options = join(REFERENCE, '../lora-options/patterns');
    await cp(join(options, 'base'), join(root, 'models/options'), { recursive: true });
    const { status, body } = await post(await tarOfFolder(join(options, 'adapter_init')), '?base_model=options');
    expect(status).toBe(201);
    const own = await readPeftFolder(join(options, 'adapter_init'));
    const published = await readPeftFolder(adapters.folder(body.id));
    const { lora } = (await (await fetch(`${url}/adapters/${body.id}/manifest`)).json()) as AdapterManifest;
    expect(new Set([...published.modules.values()].map(({ rank }) => rank))).toEqual(new Set([8]));
    expect(new Set([...published.modules.values()].map(({ scale }) => scale)).size).toBe(1);
    for (const [name, { rank, scale }] of own.modules) {
      const manifestRank = lora.rank_pattern[name] ?? lora.r;
      expect(manifestRank).toBe(rank);
      expect((lora.alpha_pattern[name] ?? lora.alpha) / rank).toBeCloseTo(scale, 14);
    }
  });

  test('imported twice becomes two adapters', async () => {
    const tar = tarOf(peftFiles());
    const [one, other] = [await post(tar), await post(tar)];
    expect([one.status, other.status]).toEqual([201, 201]);
    expect(one.body.id).not.toBe(other.body.id);
  });

  test('loses all fields of its config that are not known', async () => {
    const auto_mapping = { base_model_class: 'X', parent_library: 'os' };
    const { body } = await post(withConfig({ auto_mapping, revision: 'evil' }));
    const kept = JSON.parse(await readFile(adapters.path(body.id, 'adapter_config.json'), 'utf8'));
    expect(kept).toMatchObject({ auto_mapping: null, revision: null, base_model_name_or_path: 'llama-tied' });
  });
});

describe('an invalid adapter is refused:', () => {
  const UNSUPPORTED = [
    [{ use_dora: true }, 'use_dora'],
    [{ peft_type: 'LOHA' }, 'peft_type'],
    [{ bias: 'all' }, 'bias'],
    [{ modules_to_save: ['lm_head'] }, 'modules_to_save'],
    [{ init_lora_weights: 'pissa' }, 'init_lora_weights'],
    [{ r: 1000 }, 'rank 4'],
    [{ lora_alpha: 0 }, 'scale'],
    [{ lora_alpha: 1e308 }, 'the scale is up to 2.50e+307'],
    [{ rank_pattern: { '(?=x)': 3 } }, 'rank_pattern'],
    [{ alpha_pattern: { '((((a{9}){9}){9}){2})*': 3 } }, 'alpha_pattern'],
  ] as const;
  test.each(usualCases(UNSUPPORTED, 3))('%j', async (change, named) => {
    const { status, body } = await post(withConfig(change));
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain(named);
    await nothingIsLeft();
  });

  async function changedWeights(
    change: (
      name: string,
      values: Float32Array,
      shape: number[],
    ) => { name?: string; shape?: number[]; values?: Float32Array },
  ): Promise<Buffer> {
    const opened = await openSafetensors(join(INITIAL, 'adapter_model.safetensors'));
    const tensors = [];
    for (const { name, shape } of opened.tensors.values()) {
      const values = new Float32Array((await opened.read(name)).slice().buffer);
      const changed = { name, shape: [...shape], values, ...change(name, values, [...shape]) };
      const data = new Uint8Array(changed.values.buffer);
      tensors.push({ name: changed.name, shape: changed.shape, dtype: 'F32' as const, data });
    }
    await opened.close();
    await writeSafetensors(join(root, 'changed.safetensors'), tensors);
    return await readFile(join(root, 'changed.safetensors'));
  }

  const WRONG_TENSORS = [
    [
      'a NaN',
      (_: string, values: Float32Array) => ({ values: values.map((value, i) => (i === 3 ? Number.NaN : value)) }),
      'not finite',
    ],
    [
      'an infinity',
      (_: string, values: Float32Array) => ({ values: values.map((value, i) => (i === 0 ? Infinity : value)) }),
      'not finite',
    ],
    [
      'huge numbers',
      (_: string, values: Float32Array) => ({ values: values.map(() => 3e38) }),
      'a number of A is up to 3.00e+38',
    ],
    [
      'numbers whose product is huge',
      (_: string, values: Float32Array) => ({ values: values.map(() => 3e5) }),
      'an update is up to 7.20e+11',
    ],
    ['a module that the base has not', (name: string) => ({ name: name.replace('layers.0', 'layers.9') }), 'layers.9'],
    [
      'other sizes at the output head',
      (name: string) => ({ name: name.replace('model.layers.0.self_attn.q_proj', 'lm_head') }),
      'lm_head is for a weight of',
    ],
    [
      'other sizes',
      (name: string, values: Float32Array, [rank, width]: number[]) =>
        name.endsWith('lora_A.weight')
          ? { shape: [rank!, width! + 1], values: new Float32Array(rank! * (width! + 1)) }
          : { values },
      'weight of',
    ],
  ] as const;
  test.each(usualCases(WRONG_TENSORS, 3))('%s', async (_, change, named) => {
    const content = await changedWeights(change as Parameters<typeof changedWeights>[0]);
    const { status, body } = await post(tarOf([peftFiles()[0]!, { name: 'adapter_model.safetensors', content }]));
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toContain(named);
    await nothingIsLeft();
  });

  test.each(['two', 'one'])('an adapter of experts, %s, of a base that has none', async (name) => {
    const folder = join(REFERENCE, '../../../packages/peft-files/src/fixtures/experts', name);
    const { status, body } = await post(await tarOfFolder(folder), '?base_model=llama-tied');
    expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    expect(body.error.message).toMatch(/experts\.\w+_proj is not a linear layer, or a parameter of experts/);
    await nothingIsLeft();
  });

  test('bytes that are not safetensors', async () => {
    for (const content of ['', 'x', Buffer.alloc(64, 0xff), gzipSync(weights), weights.subarray(0, -1)]) {
      const { status, body } = await post(tarOf([peftFiles()[0]!, { name: 'adapter_model.safetensors', content }]));
      expect([status, body.error.code]).toEqual([422, 'invalid_adapter']);
    }
    await nothingIsLeft();
  });

  test('invalid queries', async () => {
    const tar = tarOf(peftFiles());
    expect(await post(tar, '?base_model=none')).toMatchObject({
      status: 404,
      body: { error: { code: 'model_not_found' } },
    });
    for (const query of ['?base_model=..%2f..', '?name=', '?nmae=x', `?name=${'x'.repeat(200)}`]) {
      expect([query, (await post(tar, query)).status]).toEqual([query, 400]);
    }
    await nothingIsLeft();
  });
});

describe('the import process', () => {
  test('crashes: the answer is a 500, and no files are left', async () => {
    await listen({ program: faultyProgram('crash') });
    expect(await post(tarOf(peftFiles()))).toMatchObject({ status: 500, body: { error: { code: 'import_crashed' } } });
    await nothingIsLeft();
  });

  test('takes too long: it is stopped', async () => {
    await listen({ program: faultyProgram('hang'), timeoutMs: 500 });
    expect(await post(tarOf(peftFiles()))).toMatchObject({ status: 504, body: { error: { code: 'timeout' } } });
    await nothingIsLeft();
  });
});
