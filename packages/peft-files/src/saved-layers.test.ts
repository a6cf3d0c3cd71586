import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import {
  type FloatDtype,
  fromFloat32,
  openSafetensors,
  type TensorToWrite,
  toFloat32,
  writeSafetensors,
} from '@lorasmith/weight-files';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readPeftFolder } from './peft-folder.js';

const FAMILIES = new URL('../../../test/fixtures/families/', import.meta.url).pathname;
const HEAD = 'base_model.model.lm_head.base_layer.weight';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'saved-layers-'));
});
afterEach(() => rm(folder, { recursive: true }));

/** An adapter of PEFT with the weights that it saves of the base, changed. */
async function changed(change: (tensor: TensorToWrite) => TensorToWrite[]): Promise<string> {
  await cp(join(FAMILIES, 'head-tied/adapter_saved'), folder, { recursive: true });
  const path = join(folder, 'adapter_model.safetensors');
  const file = await openSafetensors(path);
  const tensors: TensorToWrite[] = [];
  for (const { name, dtype, shape } of file.tensors.values()) {
    tensors.push({ name, dtype, shape, data: await file.read(name) });
  }
  await file.close();
  await writeSafetensors(path, tensors.flatMap(change));
  return folder;
}

const base = () => readModelFolder(join(FAMILIES, 'head-tied/base'));
const ofHead = (change: (head: TensorToWrite) => TensorToWrite) => (tensor: TensorToWrite) => [
  tensor.name === HEAD ? change(tensor) : tensor,
];

describe('an adapter that PEFT saves with the weight of the head', () => {
  test.each(['head', 'head-tied', 'head-capped'])('%s is read as the one without', async (name) => {
    const read = await readPeftFolder(join(FAMILIES, name, 'adapter_saved'), {
      base: await readModelFolder(join(FAMILIES, name, 'base')),
    });
    expect(read.modules.has('lm_head')).toBe(true);
    expect(read).toEqual(await readPeftFolder(join(FAMILIES, name, 'adapter_init')));
  });

  test.each(['BF16', 'F16'] as const)('may have it in %s, rounded', async (dtype: FloatDtype) => {
    const adapter = await changed(
      ofHead((head) => ({ ...head, dtype, data: fromFloat32(toFloat32(head.data as Uint8Array, 'F32'), dtype) })),
    );
    const read = await readPeftFolder(adapter, { base: await base() });
    expect(read).toEqual(await readPeftFolder(join(FAMILIES, 'head-tied/adapter_init')));
  });

  test('may have the embedding beside it, by any root', async () => {
    for (const name of ['base_model.model.model.embed_tokens.weight', 'base_model.model.lm_head.weight']) {
      const adapter = await changed((tensor) => (tensor.name === HEAD ? [tensor, { ...tensor, name }] : [tensor]));
      await expect(readPeftFolder(adapter, { base: await base() })).resolves.toBeDefined();
    }
  });
});

describe('is refused, by name', () => {
  test.each<[string, (head: TensorToWrite) => TensorToWrite]>([
    [
      'one number',
      (head) => ({ ...head, data: (head.data as Uint8Array).map((byte, i) => (i === 70 ? byte ^ 64 : byte)) }),
    ],
    ['a row more', (head) => ({ ...head, shape: [65, 16], data: new Uint8Array(65 * 16 * 4) })],
    ['another dtype', (head) => ({ ...head, dtype: 'I32' })],
  ])('a weight that differs from that of the base in %s', async (_, change) => {
    const adapter = await changed(ofHead(change));
    await expect(readPeftFolder(adapter, { base: await base() })).rejects.toMatchObject({
      code: 'invalid_adapter',
      param: HEAD,
      message: expect.stringContaining('save_embedding_layers=False'),
    });
  });

  test('a weight of another layer, and any without a base to compare', async () => {
    const other = 'base_model.model.model.norm.weight';
    const adapter = await changed((tensor) => (tensor.name === HEAD ? [{ ...tensor, name: other }] : [tensor]));
    await expect(readPeftFolder(adapter, { base: await base() })).rejects.toMatchObject({ param: other });
    await expect(readPeftFolder(join(FAMILIES, 'head-tied/adapter_saved'))).rejects.toMatchObject({ param: HEAD });
  });
});
