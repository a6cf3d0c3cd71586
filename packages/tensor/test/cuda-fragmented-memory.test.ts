import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

// A card of 256 MiB whose pool fragments: native/cuda/emulation/card.h.
vi.hoisted(() => {
  process.env.EMULATED_GPU_MEMORY = String(256 * 2 ** 20);
  process.env.EMULATED_GPU_FRAGMENTS = '1';
});

import './emulated-gpu.js';
import { engine, exactly } from '../src/binding.js';
import { padWeight } from '../src/kernels/adapted-product.js';
import { dispose, keep, scope, type Tensor } from '../src/tensor.js';
import { tensorOf, toFloat32Array } from '../src/transfer.js';

const cuda = engine.cuda!;
const MIB = 2 ** 20;
const NONE = { memoryWaits: 0, partialTrims: 0, fullTrims: 0, failedAllocations: 0 };

let made: Tensor[] = [];
let value = 0;
const contents = new Map<Tensor, number>();

/** A tensor of one value, which no other one has. */
function filled(mebibytes: number): Tensor {
  value += 1;
  const size = (mebibytes * MIB) / 4;
  const tensor = keep(tensorOf(new Float32Array(size).fill(value), [size]));
  made.push(tensor);
  contents.set(tensor, value);
  return tensor;
}

function free(tensors: Tensor[]): void {
  dispose(tensors);
  made = made.filter((tensor) => !tensors.includes(tensor));
}

/** The stages that allocations took in `run`, whether they succeeded or not. */
function stagesOf(run: () => unknown): typeof NONE {
  const before = cuda.statistics();
  run();
  const after = cuda.statistics();
  const since = (name: keyof typeof NONE) => after[name] - before[name];
  return {
    memoryWaits: since('memoryWaits'),
    partialTrims: since('partialTrims'),
    fullTrims: since('fullTrims'),
    failedAllocations: since('failedAllocations'),
  };
}

function expectContents(): void {
  for (const tensor of made) {
    const read = toFloat32Array(tensor);
    expect(read.every((number) => number === contents.get(tensor))).toBe(true);
  }
}

beforeEach(() => {
  delete process.env.EMULATED_GPU_TRIMS;
  // One block of everything.
  free([filled(256)]);
  cuda.synchronize();
});
afterEach(() => free(made));

describe('an allocation that finds no memory', () => {
  test('waits, if what is free may be in use by what is enqueued', () => {
    const [first] = [filled(64), filled(64), filled(64), filled(64)];
    free([first!]);
    expect(stagesOf(() => filled(64))).toEqual({ ...NONE, memoryWaits: 1 });
    expectContents();
  });

  test('then has the pool give back as much as it needs, if what is free is in small blocks', () => {
    const blocks = Array.from({ length: 32 }, () => filled(8));
    free(blocks.filter((_, index) => index % 2 === 0));
    expect(stagesOf(() => filled(24))).toEqual({ ...NONE, memoryWaits: 1, partialTrims: 1 });
    // 64 MiB were given back, and 24 of them taken. The pool kept the rest of its blocks.
    expect(cuda.memory().reservedBytes).toBe((256 - 64 + 24) * MIB);
    expect(stagesOf(() => filled(24))).toEqual(NONE);
    expect(stagesOf(() => filled(8))).toEqual(NONE);
    expectContents();
  });

  test('gives back twice its bytes, in which its own bytes are in whole blocks', () => {
    const blocks = Array.from({ length: 16 }, () => filled(16));
    free(blocks.filter((_, index) => index % 2 === 0));
    expect(stagesOf(() => filled(48))).toEqual({ ...NONE, memoryWaits: 1, partialTrims: 1 });
    expect(cuda.memory().reservedBytes).toBe((256 - 96 + 48) * MIB);
    expectContents();
  });

  test('then has the pool give back everything, if a part of it does not help', () => {
    process.env.EMULATED_GPU_TRIMS = 'all';
    const blocks = Array.from({ length: 32 }, () => filled(8));
    free(blocks.filter((_, index) => index % 2 === 0));
    expect(stagesOf(() => filled(24))).toEqual({ ...NONE, memoryWaits: 1, partialTrims: 1, fullTrims: 1 });
    expect(cuda.memory().reservedBytes).toBe((128 + 24) * MIB);
    expectContents();
  });

  test('has it give back everything at once, if there is no more than that', () => {
    const blocks = Array.from({ length: 32 }, () => filled(8));
    free(blocks.slice(0, 7));
    expect(stagesOf(() => filled(40))).toEqual({ ...NONE, memoryWaits: 1, fullTrims: 1 });
    expectContents();
  });

  test('fails, if that does not suffice, and everything else goes on', () => {
    const blocks = Array.from({ length: 32 }, () => filled(8));
    free(blocks.slice(0, 2));
    const stages = stagesOf(() => {
      expect(() => filled(24)).toThrow(
        /^OOM when allocating 25165824 bytes: CUDA_ERROR_OUT_OF_MEMORY \(2\); 251658240 of the card's 268435456 bytes are/,
      );
    });
    expect(stages).toEqual({ ...NONE, memoryWaits: 1, fullTrims: 1, failedAllocations: 1 });
    filled(16);
    expectContents();
    expect(cuda.failure()).toBeNull();
  });
});

describe('requests of 1 MiB and more', () => {
  const takenBy = (make: () => unknown) => {
    const before = cuda.memory().currentBytes;
    make();
    return cuda.memory().currentBytes - before;
  };

  test('take an eighth of their power of two more at most, smaller ones what they ask for', () => {
    expect(takenBy(() => filled(1 - 1 / 2048))).toBe(MIB - 512);
    expect(takenBy(() => filled(1))).toBe(MIB);
    expect(takenBy(() => filled(1 + 1 / 2048))).toBe(1.125 * MIB);
    expect(takenBy(() => filled(1.875))).toBe(1.875 * MIB);
    expect(takenBy(() => filled(1.90625))).toBe(2 * MIB);
    expect(takenBy(() => filled(33))).toBe(36 * MIB);
    expect(takenBy(() => filled(65))).toBe(72 * MIB);
  });

  test('so a freed block fits another request of about its size', () => {
    filled(192);
    free([filled(57)]);
    cuda.synchronize();
    expect(stagesOf(() => filled(59.5))).toEqual(NONE);
  });

  test('do not fail for it', () => {
    exactly(() => filled(202));
    expect(stagesOf(() => filled(53.5))).toEqual({ ...NONE, memoryWaits: 1, fullTrims: 1 });
    expectContents();
  });

  test('take what they ask for where they stay: weights', () => {
    expect(takenBy(() => exactly(() => filled(33)))).toBe(33 * MIB);
    expect(() => exactly(() => filled(1000))).toThrow(/OOM/);
    expect(takenBy(() => filled(33))).toBe(36 * MIB);
    const [rows, columns] = [1024, 2048];
    scope(() => {
      const weight = tensorOf(new Float32Array(rows * columns), [rows, columns]);
      let tensor: Tensor | undefined;
      expect(takenBy(() => ({ tensor } = padWeight(weight)))).toBe(4 * (rows + 64) * columns);
      expect(tensor!.shape).toEqual([rows + 64, columns]);
    });
  });
});
