import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ExpertParameter, readModelFolder, staysQuantized } from '@lorasmith/model-folder';
import {
  cast,
  chooseKernels,
  engine,
  type FloatDType,
  liveTensorCount,
  QuantizedMatrix,
  rowsOf,
  ScaledMatrix,
  scope,
  slice,
  tensorOf,
  tensorOfBytes,
  toFloat32Array,
} from '@lorasmith/tensor';
import { openSafetensors, writeSafetensors } from '@lorasmith/weight-files';
import { describe, expect, onTestFinished, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { loadDecoder } from './decoder/load-decoder.js';
import { DenseLinear, QuantizedLinear } from './frozen-linear.js';

const fixtures = fileURLToPath(new URL('../../../test/fixtures/quantized/', import.meta.url));
const CASES = readdirSync(fixtures, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() ? entry.name : [],
);

const digest = (numbers: Float32Array, dtype: FloatDType) => {
  const bits = new Uint16Array(numbers.buffer, numbers.byteOffset, numbers.length * 2);
  // Rounded already: the upper halves are the numbers.
  const bytes = dtype === 'float32' ? numbers : bits.filter((_, i) => i % 2 === 1);
  return createHash('sha256')
    .update(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    .digest('hex');
};

/** The weights of an expert, of files that have each by itself. */
const ofExpert = ({ tensors, experts }: ExpertParameter, expert: number) => {
  const count = tensors.length / experts;
  return tensors.slice(expert * count, (expert + 1) * count).map(({ name }) => name);
};

describe.each(CASES.flatMap((name) => (['fused', 'raw'] as const).map((kernels) => ({ name, kernels }))))(
  'weights of $name, with $kernels kernels',
  ({ name, kernels: source }) => {
    const kernels = chooseKernels(source);
    test.each(['float32', 'bfloat16'] as const)(
      'are decoded bit by bit as bitsandbytes and transformers do, in %s',
      async (dtype) => {
        const folder = await readModelFolder(join(fixtures, name, 'base'));
        const expected = JSON.parse(await readFile(join(fixtures, name, 'decoded.json'), 'utf8'));
        expect([...folder.quantized.keys()].sort()).toEqual(Object.keys(expected).sort());
        const model = await loadDecoder(folder, dtype, kernels);
        const found: Record<string, unknown> = {};
        for (const { modules, linear } of model.groups) {
          let row = 0;
          for (const { name: module, outFeatures, expert } of modules) {
            const weights = expert
              ? ofExpert(folder.expertParameters.get(module)!, expert.index)
              : [folder.linears.get(module)!.weight];
            const rows = outFeatures / weights.length;
            for (const weight of weights) {
              const first = row;
              const numbers = scope(() => toFloat32Array(linear.weightRows(first, rows)));
              if (folder.quantized.has(weight)) found[weight] = digest(numbers, dtype);
              row += rows;
            }
          }
        }
        model.dispose();
        expect(found).toEqual(
          Object.fromEntries(Object.entries(expected).map(([key, of]) => [key, (of as never)[dtype]])),
        );
      },
    );
  },
);

test('layers with one input stay quantized together, or are decoded when they are loaded', async () => {
  const kernels = chooseKernels('raw');
  const quantizedIn = async (name: string) => {
    const folder = await readModelFolder(join(fixtures, name, 'base'));
    const before = liveTensorCount();
    const model = await loadDecoder(folder, 'float32', kernels);
    const kinds = model.groups.map(({ linear }) => linear instanceof QuantizedLinear);
    const planned = model.groups.map(({ modules }) =>
      staysQuantized(
        folder.quantized,
        modules.map(({ name: module }) => folder.linears.get(module)!),
      ),
    );
    expect(kinds).toEqual(planned);
    model.dispose();
    expect(liveTensorCount()).toBe(before);
    return kinds;
  };
  expect(await quantizedIn('nf4-nested')).toEqual(Array(8).fill(true).concat(false));
  expect(await quantizedIn('nf4-mixed')).toEqual([false, true, true, true, true, true, true, false, false]);
  expect(await quantizedIn('nf4-narrow-bfloat16')).toEqual(Array(9).fill(false));
  expect(await quantizedIn('fp8-blocks')).toEqual([true, true, true, true, false]);
});

/** Random codes and scales: q, k and v below each other, the second block of scales begins within k. */
function randomMatrix(columns: number, rows: readonly number[], nested: boolean): QuantizedMatrix {
  const numbers = columns * rows.reduce((sum, count) => sum + count, 0);
  const blocks = numbers / 64;
  const bytes = (count: number, seed: number) =>
    Uint8Array.from(normalNumbers(count, seed), (value) => Math.abs(Math.round(value * 100)) % 256);
  const groups = rows.map((count) => Math.ceil((count * columns) / 64 / 256));
  const positive = (count: number, seed: number) => normalNumbers(count, seed).map((value) => Math.abs(value) + 0.01);
  const plain = new Uint8Array(positive(blocks, 3).buffer);
  const modules = rows.map((count, i) => ({
    rows: count,
    values: normalNumbers(16, 10 + i),
    nested: nested ? { values: normalNumbers(256, 20 + i), offset: 0.1 * (i + 1) } : null,
  }));
  const uint8 = (data: Uint8Array, shape: number[]) => tensorOfBytes(data, shape, 'uint8');
  return new QuantizedMatrix(columns, modules, {
    codes: uint8(bytes(numbers / 2, 1), [numbers / 2]),
    scales: nested ? uint8(bytes(blocks, 2), [blocks]) : uint8(plain, [blocks, 4]),
    nestedScales: nested
      ? tensorOf(
          positive(
            groups.reduce((sum, count) => sum + count, 0),
            4,
          ),
          [groups.reduce((sum, count) => sum + count, 0)],
        )
      : null,
  });
}

/** All bytes but those of NaN, and scales for blocks of so many columns: q, k and v below each other. */
function scaledMatrix(columns: number, rows: readonly number[], blockColumns: number): ScaledMatrix {
  const all = rows.reduce((sum, count) => sum + count, 0);
  const codes = Uint8Array.from({ length: all * columns }, (_, i) => (i * 37 + (i >> 8)) % 256);
  for (const [i, code] of codes.entries()) if ((code & 127) === 127) codes[i] = 1;
  const blockRows = 32;
  const modules = rows.map((count, i) => {
    const blocks = Math.ceil(count / blockRows) * Math.ceil(columns / blockColumns);
    return { rows: count, blockRows, scales: normalNumbers(blocks, 30 + i).map(Math.abs) };
  });
  return new ScaledMatrix(columns, blockColumns, modules, tensorOfBytes(codes, [codes.length], 'uint8'));
}

describe.each(['fused', 'raw'] as const)('products with %s kernels', (source) => {
  const kernels = chooseKernels(source);
  // The widths end within a panel, and reach over the chunks of depth: 768 in float32, 2,048 and 3,072 in bfloat16.
  const shapes = [
    { columns: 192, rows: [70, 33, 1] },
    { columns: 3200, rows: [40] },
    { columns: 64, rows: [3201] },
  ];
  const forms = [
    ...shapes.flatMap((shape) => [
      { ...shape, form: 'nf4', matrix: () => randomMatrix(shape.columns, shape.rows, true) },
      { ...shape, form: 'plain nf4', matrix: () => randomMatrix(shape.columns, shape.rows, false) },
      { ...shape, form: 'fp8', matrix: () => scaledMatrix(shape.columns, shape.rows, 64) },
    ]),
    // A width that is odd, with a short block, and one block for all.
    { columns: 151, rows: [33, 70], form: 'fp8', matrix: () => scaledMatrix(151, [33, 70], 32) },
    { columns: 3201, rows: [40, 1], form: 'fp8 with one block', matrix: () => scaledMatrix(3201, [40, 1], 3201) },
  ];
  test.each(
    // Plain products decode all weights first.
    (source === 'raw' ? forms.filter(({ columns }) => columns < 200) : forms).flatMap((form) =>
      (['float32', 'bfloat16'] as const).map((dtype) => ({ ...form, dtype })),
    ),
  )('of $form [$rows, $columns] in $dtype have the bits of decoded weights', (shape) => {
    const { columns, rows, dtype } = shape;
    scope(() => {
      const matrix = shape.matrix();
      const all = matrix.rows;
      const quantized = new QuantizedLinear(kernels, matrix, null, dtype);
      const dense = new DenseLinear(kernels, quantized.weightRows(0, all), null);
      expect(toFloat32Array(quantized.weightRows(rows[0]! - 1, Math.min(3, all - rows[0]! + 1)))).toEqual(
        toFloat32Array(dense.weightRows(rows[0]! - 1, Math.min(3, all - rows[0]! + 1))),
      );
      const most = 500;
      const inputs = cast(tensorOf(normalNumbers(most * columns, 5), [most, columns]), dtype);
      const gradients = cast(tensorOf(normalNumbers(most * all, 6), [most, all]), dtype);
      for (const count of [1, 13, 14, 33, most]) {
        const [x, g] = [rowsOf(inputs, { first: 0, count }), rowsOf(gradients, { first: 0, count })];
        const [output, ofDecoded] = [quantized.forward(x), dense.forward(x)];
        if (sumsInItsOwnOrder(dtype, count)) {
          expect(differenceByLargest(toFloat32Array(output), toFloat32Array(ofDecoded))).toBeLessThanOrEqual(
            BFLOAT16_UNIT,
          );
        } else expect(Buffer.compare(bytesOf(output), bytesOf(ofDecoded))).toBe(0);
        expect(Buffer.compare(bytesOf(quantized.backwardInput(g)), bytesOf(dense.backwardInput(g)))).toBe(0);
      }
      quantized.dispose();
    });
  });
});

/** One in the last place, of the largest number. */
const BFLOAT16_UNIT = 2 ** -7;

/** The CUDA engine's kernel for few rows, whose sums the tests of that engine compare where they are exact. */
function sumsInItsOwnOrder(dtype: FloatDType, rows: number): boolean {
  return engine.kind === 'cuda' && dtype === 'bfloat16' && rows <= 16;
}

const bytesOf = (tensor: Parameters<typeof toFloat32Array>[0]) => Buffer.from(toFloat32Array(tensor).buffer);

test('the kernels decode to the same bits as plain ops', () => {
  scope(() => {
    const matrix = randomMatrix(192, [70, 33, 1], true);
    for (const one of [matrix, scaledMatrix(192, [70, 33, 1], 64), scaledMatrix(151, [33, 70], 32)]) {
      const decoded = (['fused', 'raw'] as const).map((source) => {
        const kernels = chooseKernels(source);
        return bytesOf(new QuantizedLinear(kernels, one, null, 'float32').weightRows(0, one.rows));
      });
      expect(Buffer.compare(decoded[0]!, decoded[1]!)).toBe(0);
    }
    expect(toFloat32Array(slice(matrix.table, [0, 0], [3, 1]))).toEqual(Float32Array.of(0, 70, 103));
    matrix.dispose();
  });
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, -1])(
  'a scale of %s is refused by the name of its tensor',
  async (wrong) => {
    const folder = await mkdtemp(join(tmpdir(), 'quantized-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    await cp(join(fixtures, 'fp4-plain', 'base'), folder, { recursive: true });
    const file = await openSafetensors(join(folder, 'model.safetensors'));
    const name = 'model.layers.1.mlp.up_proj.weight.absmax';
    const tensors = [];
    for (const { name: own, dtype, shape } of file.tensors.values()) {
      const data = await file.read(own);
      if (own === name) new DataView(data.buffer).setFloat32(8, wrong, true);
      tensors.push({ name: own, dtype, shape, data });
    }
    await file.close();
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    const kernels = chooseKernels('raw');
    const loading = loadDecoder(await readModelFolder(folder), 'float32', kernels);
    await expect(loading).rejects.toThrow(`tensor ${name} has a scale that is negative or not finite`);
  },
);
