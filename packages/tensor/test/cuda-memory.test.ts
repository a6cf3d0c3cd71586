import { expect, test, vi } from 'vitest';
import { chooseKernels } from '../src/kernels/kernel-table.js';

vi.hoisted(() => {
  process.env.EMULATED_GPU_MEMORY = String(64 * 2 ** 20);
});

import './emulated-gpu.js';
import { engine } from '../src/binding.js';
import { scope, type Tensor } from '../src/tensor.js';
import { onDevice, tensorOf, toFloat32Array, toInt32Array } from '../src/transfer.js';

const kernels = chooseKernels('raw');

const cuda = engine.cuda!;
const MIB = 2 ** 20;
const numbers = (mebibytes: number): Tensor => tensorOf(new Float32Array((mebibytes * MIB) / 4), [mebibytes, MIB / 4]);

test('memory that runs out is reported as such, and the next op has all of it again', () => {
  for (let round = 0; round < 3; round++) {
    expect(() => void scope(() => [numbers(40), numbers(30)])).toThrow(
      /^OOM when allocating 31457280 bytes: CUDA_ERROR_OUT_OF_MEMORY \(2\); 41943040 of the card's 67108864 bytes are/,
    );
    expect(cuda.memory().currentBytes).toBe(0);
    scope(() => void numbers(60));
  }
  expect(cuda.failure()).toBeNull();
});

test('an op whose result does not fit names itself', () => {
  scope(() => {
    const [column, row] = [tensorOf(new Float32Array(4000), [4000, 1]), tensorOf(new Float32Array(5000), [1, 5000])];
    expect(() => void kernels.matMul(column, row)).toThrow(
      /^MatMul\(float32\[4000,1\] float32\[1,5000\]\): .*OOM when allocating/s,
    );
  });
});

test('no room for the workspace of products is out of memory, too, until there is room', () => {
  const small = () => tensorOf(Float32Array.of(1, 2, 3, 4), [2, 2]);
  scope(() => {
    numbers(50);
    expect(() => void kernels.matMul(small(), small())).toThrow(/OOM when allocating/);
  });
  expect(scope(() => [...toFloat32Array(kernels.matMul(small(), small()))])).toEqual([7, 10, 15, 22]);
});

test('a tensor of whole numbers is copied to the card once', () => {
  scope(() => {
    const ids = onDevice(tensorOf(Int32Array.of(3, -1, 7), [3]));
    const before = cuda.statistics();
    const again = onDevice(ids);
    expect(cuda.statistics()).toMatchObject({ uploads: before.uploads, downloads: before.downloads });
    expect([...toInt32Array(again)]).toEqual([3, -1, 7]);
    expect(cuda.statistics().downloadedBytes).toBe(before.downloadedBytes + 12);
  });
});
