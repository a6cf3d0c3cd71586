import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mergeModel } from '@lorasmith/export';
import { readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter, loadDecoder, type ModelAdapter } from '@lorasmith/models';
import { type PeftAdapter, type PeftModule, readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, type FloatDType, liveTensorCount, scope, toFloat32Array } from '@lorasmith/tensor';
import { type FloatDtype, fromFloat32, openSafetensors, toFloat32, writeSafetensors } from '@lorasmith/weight-files';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { oneOfEachStructure } from '../../../../test/usual-cases.js';
import { MergedModel, mergedLayers, RecordedAdapter } from './merged-model.js';

const kernels = chooseKernels('fused');

const FAMILIES = new URL('../../../../test/fixtures/families/', import.meta.url).pathname;
const IDS = Int32Array.from({ length: 12 }, (_, i) => (7 * i + 3) % 40);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'merged-projection-'));
});
afterAll(() => rm(root, { recursive: true }));

/** A family's base with its weights in this dtype, and the adapter that was trained on it. */
async function familyIn(name: string, dtype: FloatDtype): Promise<{ base: string; adapter: PeftAdapter }> {
  const base = join(root, `${name}-${dtype}`);
  await cp(join(FAMILIES, name, 'base'), base, { recursive: true });
  for (const weights of (await readdir(base)).filter((file) => file.endsWith('.safetensors'))) {
    const file = await openSafetensors(join(base, weights));
    const tensors = [];
    for (const { name: tensor, dtype: stored, shape } of file.tensors.values()) {
      const own = await file.read(tensor);
      // Codes and scales stay as they are.
      const data = stored === 'U8' ? own : fromFloat32(toFloat32(own, stored as FloatDtype), dtype);
      tensors.push({ name: tensor, dtype: stored === 'U8' ? stored : dtype, shape, data });
    }
    await file.close();
    await writeSafetensors(join(base, weights), tensors);
  }
  return { base, adapter: await readPeftFolder(join(FAMILIES, name, 'adapter_trained')) };
}

const logitsOf = (decoder: Decoder, adapter?: ModelAdapter) =>
  scope(() =>
    toFloat32Array(decoder.logits({ ids: IDS, rowLengths: [IDS.length] }, adapter === undefined ? [] : [{ adapter }])),
  );

function loraOf(decoder: Decoder, adapter: PeftAdapter): LoraAdapter {
  const targets = [...adapter.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  return new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial: adapter });
}

describe.each(oneOfEachStructure(await readdir(FAMILIES)))('%s', (name) => {
  test.each([
    ['BF16', 'float32'],
    ['BF16', 'bfloat16'],
  ] as const)('stored in %s and computed in %s, it is the merged download bit for bit', async (stored, dtype) => {
    const { base, adapter } = await familyIn(name, stored);
    const model = await readModelFolder(base);
    const downloaded = join(root, `merged-${name}-${stored}-${dtype}`);
    await mkdir(downloaded);
    await mergeModel({ model, adapter, outputFolder: downloaded });
    const merged = await loadDecoder(await readModelFolder(downloaded), dtype, kernels);
    const expected = logitsOf(merged);
    merged.dispose();

    const decoder = await loadDecoder(model, dtype, kernels);
    const lora = loraOf(decoder, adapter);
    const adapted = new RecordedAdapter(lora);
    const before = logitsOf(decoder, adapted);
    const layers = mergedLayers(adapter, model);
    const asMerged = new MergedModel(adapted, layers);
    const merge = () => logitsOf(decoder, asMerged);
    expect(merge()).toEqual(expected);
    // The first time has made the constants it needs.
    const handles = liveTensorCount();
    merge();
    expect(asMerged.rounding.updateSquares).toBeGreaterThan(asMerged.rounding.errorSquares);
    expect(liveTensorCount()).toBe(handles);
    expect(logitsOf(decoder, adapted)).toEqual(before);
    lora.dispose();
    decoder.dispose();
  });
});

describe('an expert that is merged wrong', () => {
  test.each([
    ['that tokens pass', 0],
    ['that no token passes', 4],
  ])('%s is refused by its name', async (_, expert) => {
    const folder = join(FAMILIES, 'qwen3_moe-experts');
    const model = await readModelFolder(join(folder, 'base'));
    const adapter = await readPeftFolder(join(folder, 'adapter_trained'));
    const decoder = await loadDecoder(model, 'float32', kernels);
    const lora = loraOf(decoder, adapter);
    const check = (modules: PeftAdapter['modules']) => {
      const adapted = new RecordedAdapter(lora);
      logitsOf(decoder, adapted);
      const asMerged = new MergedModel(adapted, mergedLayers({ ...adapter, modules }, model));
      logitsOf(decoder, asMerged);
      asMerged.compareOthers(decoder.groups);
    };
    check(adapter.modules);
    // The first time has made the constants it needs.
    const handles = liveTensorCount();
    check(adapter.modules);
    expect(liveTensorCount()).toBe(handles);
    for (const [name, module] of adapter.modules) {
      if (module.experts === undefined) continue;
      const size = module.b.length / module.experts;
      const b = module.b.map((value, i) => (Math.floor(i / size) === expert ? 1.1 * value : value));
      const spoilt = new Map(adapter.modules).set(name, { ...module, b });
      expect(() => check(spoilt), name).toThrow(
        expect.objectContaining({
          code: 'adapter_check_failed',
          message: expect.stringContaining(`expert ${expert} of ${name}`),
        }),
      );
    }
    lora.dispose();
    decoder.dispose();
  });
});

describe('what is merged as another layer than the adapted one', () => {
  const wrong: [string, (module: PeftModule, others: PeftModule[]) => PeftModule][] = [
    ['with a scale a tenth too large', (module) => ({ ...module, scale: 1.1 * module.scale })],
    ['with B and its sign turned', (module) => ({ ...module, b: module.b.map((value) => -value) })],
    ['with the matrices of another layer', (module, others) => others.find(({ a }) => a !== module.a)!],
    ['not at all', (module) => ({ ...module, scale: 0 })],
    ['with one number wrong', (module) => ({ ...module, a: module.a.map((value, i) => (i === 5 ? 3 : value)) })],
  ];
  describe.each(['float32', 'bfloat16'] as const)('in %s', (dtype: FloatDType) => {
    test.each(wrong)('%s is refused by its name', async (_what, spoil) => {
      const model = await readModelFolder(join(FAMILIES, '../reference/llama-tied/base'));
      const read = await readPeftFolder(join(FAMILIES, '../reference/llama-tied/adapter_trained'));
      // Trained for a few steps only, its updates are hardly above the rounding of bfloat16.
      const enlarged = [...read.modules].map(
        ([name, module]) => [name, { ...module, scale: 8 * module.scale }] as const,
      );
      const adapter = { ...read, modules: new Map(enlarged) };
      const decoder = await loadDecoder(model, dtype, kernels);
      const lora = loraOf(decoder, adapter);
      const [victim, module] = [...adapter.modules].at(-1)!;
      const alike = [...adapter.modules.values()].filter(
        ({ inFeatures, outFeatures }) => inFeatures === module.inFeatures && outFeatures === module.outFeatures,
      );
      const spoilt = new Map(adapter.modules).set(victim, spoil(module, alike));
      const layers = mergedLayers({ ...adapter, modules: spoilt }, model);
      const adapted = new RecordedAdapter(lora);
      logitsOf(decoder, adapted);
      const merge = () => logitsOf(decoder, new MergedModel(adapted, layers));
      expect(merge).toThrow(
        expect.objectContaining({ code: 'adapter_check_failed', message: expect.stringContaining(victim) }),
      );
      lora.dispose();
      decoder.dispose();
    });
  });
});
