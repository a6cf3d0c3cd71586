import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import type { LoraLayout } from '../src/kernels/lora.js';
import { scope } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

const launchesOf = (kernel: string) => engine.cuda!.statistics().kernels[kernel] ?? 0;

/** 16 rows of this width are 32 MiB, as many as are merged at a time. */
const WIDTH = 2 ** 19;
const ROWS = 16 + 3;

test('a weight of more rows than are merged at a time is whole, and so is its output', () => {
  const [first, scale] = [1, 0.3];
  const layout: LoraLayout = {
    ...{ offset: 0, inFeatures: WIDTH, outFeatures: ROWS + 1 },
    adapted: [{ rank: 1, scale, outFeatures: ROWS, firstRow: first }],
  };
  // The same numbers again and again: that many take long to make.
  const repeated = (numbers: Float32Array, count: number) => {
    const all = new Float32Array(count);
    for (let at = 0; at < count; at += numbers.length) all.set(numbers.subarray(0, count - at), at);
    return all;
  };
  const base = repeated(normalNumbers(9973, 1), (ROWS + 1) * WIDTH);
  const [a, b] = [repeated(normalNumbers(4999, 2), WIDTH), normalNumbers(ROWS, 3)];
  const parameters = new Float32Array(WIDTH + ROWS);
  parameters.set(a);
  parameters.set(b, WIDTH);
  // Each token reads one column.
  const columns = [5, WIDTH - 1];
  const tokens = new Float32Array(columns.length * WIDTH);
  for (const [token, column] of columns.entries()) tokens[token * WIDTH + column] = 1;
  const factor = Math.fround(scale);
  const expected = (row: number, column: number) => {
    const frozen = base[row * WIDTH + column]!;
    if (row < first) return frozen;
    const update = Math.fround(Math.fround(b[row - first]! * a[column]!) * factor);
    return Math.fround(frozen + update);
  };
  scope(() => {
    const before = launchesOf('MergeRowsFloat32');
    const merged = kernels
      .of('float32')
      .mergedWeight(
        tensorOf(base, [ROWS + 1, WIDTH]),
        tensorOf(parameters, [parameters.length]),
        tensorOf(tokens, [columns.length, WIDTH]),
        { layout, stored: ['float32'], dtype: 'float32' },
      );
    // The row of no layer, then two parts of the layer.
    expect(launchesOf('MergeRowsFloat32') - before).toBe(3);
    const weight = toFloat32Array(merged.weight);
    let differs = -1;
    for (let i = 0; i < weight.length && differs < 0; i++)
      if (weight[i] !== expected(Math.floor(i / WIDTH), i % WIDTH)) differs = i;
    expect(differs, 'the number of the weight that differs').toBe(-1);
    const output = toFloat32Array(merged.output);
    for (const [token, column] of columns.entries()) {
      for (let row = 0; row <= ROWS; row++) expect(output[token * (ROWS + 1) + row]).toBe(expected(row, column));
    }
    // Nothing is rounded; the norm of the update has the parts of all rows.
    const [error, update] = toFloat32Array(merged.norms);
    expect(error).toBe(0);
    const norm = (numbers: Float32Array) => Math.sqrt(numbers.reduce((sum, number) => sum + number * number, 0));
    expect(Math.abs(update! / (scale * norm(a) * norm(b)) - 1)).toBeLessThan(1e-5);
  });
});
