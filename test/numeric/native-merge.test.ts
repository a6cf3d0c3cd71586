import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { add, chooseKernels, multiply, scope, tensorOf, toFloat32Array } from '../../packages/tensor/src/index.js';
import {
  type FloatDtype,
  fromFloat32,
  mergeInstructions,
  toFloat32,
  type WeightUpdate,
  writeMerged,
} from '../../packages/weight-files/src/index.js';

const kernels = chooseKernels('raw');

// The merge of the registry, in C++, has the bytes that TensorFlow's product gave before it.

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'native-merge-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** W + scale · B A with TensorFlow's ops, rounded once. */
function withTensorflow(weight: Uint8Array, { dtype, shape, transposed, a, b, rank, scale }: WeightUpdate): Uint8Array {
  const [height, width] = shape;
  const [outFeatures, inFeatures] = transposed ? [width, height] : [height, width];
  const merged = scope(() => {
    const left = transposed ? tensorOf(transpose(a, rank, inFeatures), [height, rank]) : tensorOf(b, [height, rank]);
    const right = transposed ? tensorOf(b, [outFeatures, rank]) : tensorOf(a, [rank, inFeatures]);
    const update = multiply(
      kernels.matMul(left, right, { transposeB: transposed }),
      tensorOf(Float32Array.of(scale), []),
    );
    return toFloat32Array(add(tensorOf(toFloat32(weight, dtype), [height, width]), update));
  });
  return fromFloat32(merged, dtype);
}

/** `[rows, columns]` → `[columns, rows]` */
function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(matrix, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!);
}

let state = 1;
const random = (count: number, size: number) =>
  Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32 - 0.5) * size;
  });

const CASES = (['F32', 'F16', 'BF16'] as const).flatMap((dtype) =>
  [false, true].map((transposed) => ({ dtype, transposed })),
);
const SIZES = [1, 2, 4, 8, 16, 64, 128, 385, 512].map((rank) => ({ rank, height: 37, width: 130 }));

test.each(CASES)('$dtype, transposed $transposed: every rank, bit for bit', async ({ dtype, transposed }) => {
  for (const { rank, height, width } of [...SIZES, { rank: 16, height: 700, width: 1_100 }]) {
    const values = random(height * width, 0.1);
    // Zeros of both signs, numbers below the smallest normal one, and ties between two numbers of the dtype.
    values.set([0, -0, 1e-40, -1e-40, 6e-8, -6e-8, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11]);
    const weight = Uint8Array.from(fromFloat32(values, dtype satisfies FloatDtype));
    const [inFeatures, outFeatures] = transposed ? [height, width] : [width, height];
    const update = { dtype, transposed, shape: [height, width] as const, rank, scale: 32 / rank / 3 };
    // An update of zeros in the first row or column.
    const factors = { a: random(rank * inFeatures, 0.5), b: random(outFeatures * rank, 0.1).fill(0, 0, rank) };
    const expected = withTensorflow(weight, { ...update, ...factors });
    await writeFile(join(folder, 'weight'), weight);
    for (const instructions of rank > 64 ? mergeInstructions().slice(0, 1) : mergeInstructions()) {
      const [from, to] = [await open(join(folder, 'weight')), await open(join(folder, 'merged'), 'w')];
      const tensors = [{ fd: from.fd, offset: 0, bytes: weight.byteLength, update: { ...update, ...factors } }];
      await writeMerged({ output: to.fd, header: new Uint8Array(), tensors, instructions });
      await Promise.all([from.close(), to.close()]);
      const merged = await readFile(join(folder, 'merged'));
      expect(Buffer.compare(merged, expected), `rank ${rank}, ${instructions}`).toBe(0);
    }
  }
});
