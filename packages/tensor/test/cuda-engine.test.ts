import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import { scope } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const kernels = chooseKernels('fused');

const cuda = engine.cuda!;

test('the engine is the CUDA engine, on the card that the driver shows', () => {
  expect(engine).toMatchObject({ kind: 'cuda', device: 'gpu' });
  expect(kernels.library).toBe('cuda');
  const { driverVersion, error, devices } = cuda.describe();
  expect({ driverVersion, error }).toEqual({ driverVersion: 12_090, error: null });
  expect(devices).toEqual([cuda.card]);
  expect(cuda.card).toMatchObject({ name: 'Emulated GPU', capability: [9, 0], totalBytes: 8 * 2 ** 30 });
});

test('every kernel is in its module, with the parameters that the host passes', () => {
  const loaded = cuda.loadKernels();
  expect(loaded.length).toBeGreaterThan(0);
  expect(loaded.filter(({ error }) => error !== null)).toEqual([]);
});

const ROWS = 5;

// Widths below, at and above the threads of a block.
test.each([1, 33, 256, 1000])('norm of a sum, %i wide: one kernel, and nothing is read back', (width) => {
  scope(() => {
    const [x, branch, weight] = [
      normalNumbers(ROWS * width, 1),
      normalNumbers(ROWS * width, 2),
      normalNumbers(width, 3),
    ];
    const inputs = [tensorOf(x, [ROWS, width]), tensorOf(branch, [ROWS, width]), tensorOf(weight, [width])] as const;
    const before = cuda.statistics();
    const { sum, output } = kernels.of('float32').addRmsNorm(...inputs, 1e-5);
    const after = cuda.statistics();
    expect(after.launches - before.launches).toBe(1);
    expect(after.kernels.AddRmsNormFloat32! - (before.kernels.AddRmsNormFloat32 ?? 0)).toBe(1);
    expect(after).toMatchObject({ uploads: before.uploads, downloads: before.downloads });

    const expectedSum = x.map((value, i) => value + branch[i]!);
    expect(toFloat32Array(sum)).toEqual(expectedSum);
    const expected = expectedSum.map((value, i) => {
      const row = expectedSum.subarray(Math.floor(i / width) * width).subarray(0, width);
      const meanSquare = row.reduce((total, each) => total + each * each, 0) / width;
      return (value / Math.sqrt(meanSquare + 1e-5)) * weight[i % width]!;
    });
    expect(differenceByLargest(toFloat32Array(output), expected)).toBeLessThan(1e-6);
    expect(cuda.statistics().downloadedBytes - after.downloadedBytes).toBe(2 * 4 * ROWS * width);
  });
});

test('memory is counted: current use falls when tensors are freed, the peak stays until it is reset', () => {
  cuda.resetPeakMemory();
  const before = cuda.memory();
  const bytes = 1 << 20;
  scope(() => {
    tensorOf(new Float32Array(bytes / 4), [bytes / 4]);
    expect(cuda.memory().currentBytes).toBe(before.currentBytes + bytes);
  });
  expect(cuda.memory().currentBytes).toBe(before.currentBytes);
  expect(cuda.memory().peakBytes).toBe(before.currentBytes + bytes);
  cuda.resetPeakMemory();
  expect(cuda.memory().peakBytes).toBe(before.currentBytes);
});

// Longer than the ring of pinned memory, and not a multiple of its pieces.
test('a long upload arrives whole', () => {
  const numbers = Float32Array.from({ length: 5_000_003 }, (_, i) => i);
  const arrived = scope(() => toFloat32Array(tensorOf(numbers, [numbers.length])));
  expect(Buffer.compare(Buffer.from(arrived.buffer), Buffer.from(numbers.buffer))).toBe(0);
});
