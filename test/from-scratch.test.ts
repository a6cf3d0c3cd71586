import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';

// The numbers that `npm run example` prints, in a process of its own as there: the engine, and a complete service.

const PROGRAM = path.join(import.meta.dirname, '../examples/from-scratch/main.mjs');

interface Numbers {
  linear: { product: number[]; y: number[]; numbers: number; large: { weights: number; withBias: number } };
  lora: Record<'ba' | 'merged', number[][]> &
    Record<'ax' | 'bax' | 'scaled' | 'wx' | 'y' | 'mergedY', number[]> & { scale: number };
  savings: { trained: number; frozen: number; fewerPercent: number };
  stack: {
    modules: string[];
    trained: number;
    total: number;
    adapterNumbers: number;
    initial: { numbers: number; largestA: number; largestB: number; difference: number };
    loss: { first: number; last: number };
    heldOut: { before: number; after: number };
    test: { rows: number; before: number; unmerged: number; merged: number };
    baseIsUnchanged: boolean;
    sameTensors: boolean;
    sameAnswers: boolean;
    mergedDifference: number;
    largestLogit: number;
  };
}

let numbers: Numbers;
beforeAll(async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, '--json']);
  numbers = JSON.parse(stdout);
});

const near = (values: number[]) => values.map((value) => expect.closeTo(value, 5));

test('a linear layer', () => {
  const { product, y, ...counts } = numbers.linear;
  expect(product).toEqual(near([1.4, 3.2]));
  expect(y).toEqual(near([2.1, 4]));
  expect(counts).toEqual({ numbers: 8, large: { weights: 16_777_216, withBias: 16_781_312 } });
});

test('a LoRA layer, step by step, in one pass, and merged', () => {
  expect(numbers.lora).toEqual({
    scale: 2,
    ba: [
      [1, 0, 2],
      [0, 0, 0],
      [0, 6, 0],
      [1, 3, 2],
    ],
    ax: [7, 6],
    bax: [7, 0, 12, 13],
    scaled: [14, 0, 24, 26],
    wx: [6, 12, 18, 24],
    y: [20, 12, 42, 50],
    merged: [
      [3, 1, 5],
      [2, 2, 2],
      [3, 15, 3],
      [6, 10, 8],
    ],
    mergedY: [20, 12, 42, 50],
  });
});

test('rank 8 trains 99.61 % fewer numbers of a layer of 4096 × 4096', () => {
  const { fewerPercent, ...counts } = numbers.savings;
  expect(counts).toEqual({ trained: 65_536, frozen: 16_777_216 });
  expect(fewerPercent.toFixed(2)).toBe('99.61');
});

test('before training, the stack with the adapter is the base: A is Kaiming-uniform, B is zero', () => {
  const { largestA, ...initial } = numbers.stack.initial;
  expect(initial).toEqual({ numbers: 5_200, largestB: 0, difference: 0 });
  expect(largestA).toBeGreaterThan(0.95);
  expect(largestA).toBeLessThanOrEqual(1);
});

test('the stack trains 5,200 numbers, and its frozen weights stay the same bytes', () => {
  const { modules, trained, total, adapterNumbers, baseIsUnchanged } = numbers.stack;
  expect(modules).toEqual(['0', '2']);
  expect([trained, adapterNumbers]).toEqual([(128 + 256) * 8 + (256 + 10) * 8, 5_200]);
  expect(total).toBe(128 * 256 + 256 + 256 * 10 + 10 + 5_200);
  expect(baseIsUnchanged).toBe(true);
});

test('training helps, on rows of the dataset that were held out and on others', () => {
  const { loss, heldOut, test: tested } = numbers.stack;
  expect(loss.last).toBeLessThan(loss.first / 2);
  expect(heldOut.before).toBeLessThan(0.3);
  expect(heldOut.after).toBeGreaterThan(0.9);
  expect(tested.rows).toBe(200);
  expect(tested.before).toBeLessThan(60);
  expect(tested.unmerged).toBeGreaterThan(180);
});

test('the merged model answers as base and adapter do, with the tensors of the base', () => {
  const { test: tested, sameAnswers, sameTensors, mergedDifference, largestLogit } = numbers.stack;
  expect(tested.merged).toBe(tested.unmerged);
  expect([sameAnswers, sameTensors]).toEqual([true, true]);
  expect(mergedDifference / largestLogit).toBeLessThan(1e-5);
});

test('the results are printed as text', async () => {
  // The specifier is computed because the example has types of its own (examples/from-scratch/tsconfig.json).
  const { layersText, stackText } = await import(new URL('../examples/from-scratch/show.mjs', import.meta.url).href);
  const { stack, ...layers } = numbers;
  const text = layersText(layers) + stackText(stack);
  for (const part of [
    ...['[1.4, 3.2]', '[2.1, 4]', '16,777,216', '16,781,312', '[3, 1, 5] [2, 2, 2] [3, 15, 3] [6, 10, 8]'],
    ...['[20, 12, 42, 50]', '65,536', '99.61 %', '5,200 of', 'the same answers', 'the same bytes as before'],
  ]) {
    expect(text).toContain(part);
  }
});
