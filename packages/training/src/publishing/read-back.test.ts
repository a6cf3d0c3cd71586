import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import { type CommonForm, type PeftAdapter, type PeftModule, writePeftFolder } from '@lorasmith/peft-files';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { writeTinyClassifier } from '../../test/tiny-classifier.js';
import { readBack } from './read-back.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'read-back-'));
  await writeTinyClassifier(root);
});
afterEach(() => rm(root, { recursive: true }));

function moduleOf(inFeatures: number, outFeatures: number, rank: number, scale: number): PeftModule {
  const [a, b] = [normalNumbers(rank * inFeatures, inFeatures), normalNumbers(outFeatures * rank, outFeatures)];
  return { a, b, rank, scale, inFeatures, outFeatures };
}

function adapterOf(first: Partial<PeftModule> = {}, rank = 3, scale = 1.5): PeftAdapter {
  const modules = new Map([
    ['0', { ...moduleOf(6, 16, 3, 1.5), ...first }],
    ['2', moduleOf(16, 3, rank, scale)],
  ]);
  return { dropout: 0, modules, baseModelNameOrPath: null };
}

const write = async (adapter: PeftAdapter): Promise<CommonForm> =>
  writePeftFolder(root, adapter, await readModelFolder(root));

test('gives what was written, with the ranks and scales of training', async () => {
  const adapter = adapterOf({}, 2, 3);
  const { written, trained, exact } = await readBack(root, adapter, await write(adapter));
  expect(exact).toBe(true);
  expect([...written.modules.values()].map(({ rank }) => rank)).toEqual([3, 3]);
  expect(trained.modules).toEqual(adapter.modules);
});

test('knows when a scale was folded into B with rounding', async () => {
  const adapter = adapterOf({}, 3, 1.1);
  const { trained, exact } = await readBack(root, adapter, await write(adapter));
  expect(exact).toBe(false);
  const [found, meant] = [trained.modules.get('2')!.b, adapter.modules.get('2')!.b];
  expect(found.every((value, i) => Math.abs(value - meant[i]!) <= 2 ** -22 * Math.abs(meant[i]!))).toBe(true);
});

test('a bit that turned on the disk is reported with its matrix', async () => {
  const adapter = adapterOf();
  const meant = await write(adapter);
  const path = join(root, 'adapter_model.safetensors');
  const { length } = await readFile(path);
  const file = await open(path, 'r+');
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, length - 6);
  await file.write(Buffer.of(buffer[0]! ^ 1), 0, 1, length - 6);
  await file.close();
  await expect(readBack(root, adapter, meant)).rejects.toMatchObject({
    code: 'adapter_check_failed',
    message: expect.stringMatching(/^Matrix B of 2 differs when read back: -?[\d.]+ was read where/),
  });
});

test('another scale in the config is reported', async () => {
  const adapter = adapterOf();
  const meant = await write(adapter);
  const path = join(root, 'adapter_config.json');
  const config = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...config, lora_alpha: config.lora_alpha * 2 }));
  await expect(readBack(root, adapter, meant)).rejects.toMatchObject({
    code: 'adapter_check_failed',
    message: expect.stringContaining('scale 3 for 0; 3 and 1.5 were written'),
  });
});

test('a layer too few or too many is reported', async () => {
  const adapter = adapterOf();
  const meant = await write(adapter);
  await write({ ...adapter, modules: new Map([...adapter.modules].slice(1)) });
  await expect(readBack(root, adapter, meant)).rejects.toThrow(/do not contain 0/);
  await write(adapter);
  const less = { ...meant, modules: new Map([...meant.modules].slice(1)) };
  await expect(readBack(root, adapter, less)).rejects.toThrow(/contain 0, which was not trained/);
});

test.each([
  ['a', Number.NaN],
  ['b', Number.POSITIVE_INFINITY],
] as const)('a number in %s that is %s is reported with its layer', async (matrix, value) => {
  const spoilt = moduleOf(6, 16, 3, 1.5);
  spoilt[matrix][7] = value;
  const adapter = adapterOf(spoilt);
  await expect(readBack(root, adapter, await write(adapter))).rejects.toMatchObject({
    code: 'non_finite_loss',
    message: expect.stringContaining(`matrix ${matrix.toUpperCase()} of 0 `),
  });
});
