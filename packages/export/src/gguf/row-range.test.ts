import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelWeights, readModelFolder } from '@lorasmith/model-folder';
import { type StoredTensor, writeMerged } from '@lorasmith/weight-io';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mergedEntry, storedSource } from '../merging/merged-source.js';
import { storedRows } from './row-range.js';

const QUANTIZED = join(import.meta.dirname, '../../../../test/fixtures/quantized');

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'row-range-'));
});
afterAll(() => rm(root, { recursive: true }));

let files = 0;
/** The numbers of a tensor as they are written: those of a quantized one decoded. */
async function written(tensor: StoredTensor): Promise<Buffer> {
  const file = join(root, String(files++));
  const output = openSync(file, 'wx');
  await writeMerged({ output, header: new Uint8Array(), tensors: [tensor] });
  closeSync(output);
  return readFileSync(file);
}

/** The first weight of a fixture that is in 4 bits. */
async function openQuantized(name: string) {
  const model = await readModelFolder(join(QUANTIZED, name, 'base'));
  const weights = await openModelWeights(model);
  const [source] = model.quantized.keys();
  return { entry: mergedEntry(model, source!), stored: storedSource(model, weights, source!), weights };
}

test('rows of a weight in 4 bits are those of the decoded weight', async () => {
  const { entry, stored, weights } = await openQuantized('fp4-plain');
  const whole = await written(stored);
  const [rows] = entry.shape as [number, number];
  const rowBytes = whole.length / rows;
  for (const range of [
    { first: 0, count: rows / 2 },
    { first: rows / 2, count: rows / 2 },
    { first: 3, count: 5 },
  ]) {
    const part = await written(storedRows(stored, entry, range)!);
    const [from, to] = [range.first * rowBytes, (range.first + range.count) * rowBytes];
    expect(part.equals(whole.subarray(from, to))).toBe(true);
  }
  await weights.close();
});

test('rows whose blocks of scales begin before them cannot be read alone', async () => {
  const { entry, stored, weights } = await openQuantized('nf4-nested');
  const [rows] = entry.shape as [number, number];
  const whole = await written(stored);
  const first = await written(storedRows(stored, entry, { first: 0, count: rows / 2 })!);
  expect(first.equals(whole.subarray(0, whole.length / 2))).toBe(true);
  expect(storedRows(stored, entry, { first: rows / 2, count: rows / 2 })).toBe(null);
  await weights.close();
});
