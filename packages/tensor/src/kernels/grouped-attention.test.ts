import { afterEach, describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { anglesOf } from '../../test/rotary-angles.js';
import { observeOps } from '../execute.js';
import { fill } from '../layout.js';
import { type FloatDType, liveTensorCount, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import type { AttentionSettings } from './attention.js';
import { GroupedAttention } from './grouped-attention.js';

interface Case {
  lengths: number[];
  settings: AttentionSettings;
}
const HEAD_DIM = 4;
const settingsOf = (heads: number, keyValueHeads: number, further: Partial<AttentionSettings> = {}) => {
  return { heads, keyValueHeads, headDim: HEAD_DIM, scale: 0.3, window: null, softcap: null, ...further };
};
const total = (lengths: readonly number[]) => lengths.reduce((sum, length) => sum + length, 0);

/** @param mostScores of a block, over all heads of a group; undefined: as always */
function attend(
  { lengths, settings }: Case,
  qkv: Float32Array<ArrayBuffer>,
  byOutput: Float32Array<ArrayBuffer>,
  { mostScores, dtype = 'float32' }: { mostScores?: number; dtype?: FloatDType } = {},
) {
  return scope(() => {
    const { heads, keyValueHeads, headDim, window } = settings;
    const angles = anglesOf(Math.max(...lengths), headDim, 100);
    const attention = new GroupedAttention({ lengths, heads, angles, windows: [window] }, mostScores);
    const stream = cast(tensorOf(qkv, [total(lengths), (heads + 2 * keyValueHeads) * headDim]), dtype);
    const gradient = cast(tensorOf(byOutput, [total(lengths), heads * headDim]), dtype);
    const { output, saved } = attention.forward(stream, settings, true);
    const blocks = attention.groups.map(({ masks }) => masks.get(window)!.blocks.length);
    const byQkv = attention.backward(gradient, saved!, settings);
    return { output: toFloat32Array(output), byQkv: toFloat32Array(byQkv), blocks };
  });
}

function numbersFor({ lengths, settings }: Case) {
  const { heads, keyValueHeads, headDim } = settings;
  return {
    qkv: normalNumbers(total(lengths) * (heads + 2 * keyValueHeads) * headDim, 1),
    byOutput: normalNumbers(total(lengths) * heads * headDim, 2),
  };
}

const CASES: [name: string, Case][] = [
  ['one row', { lengths: [13], settings: settingsOf(2, 2) }],
  ['rows of one length, three queries to a key', { lengths: [11, 11], settings: settingsOf(6, 2) }],
  ['rows of different lengths, padded', { lengths: [14, 12, 13], settings: settingsOf(4, 2) }],
  ['a window', { lengths: [17], settings: settingsOf(2, 1, { window: 3 }) }],
  ['a window of a token', { lengths: [9, 8], settings: settingsOf(2, 1, { window: 1 }) }],
  ['a window as long as the row', { lengths: [12], settings: settingsOf(2, 1, { window: 12 }) }],
  ['capped scores', { lengths: [10], settings: settingsOf(2, 1, { softcap: 1.5 }) }],
  ['sinks', { lengths: [10], settings: settingsOf(2, 1, { sinks: tensorOf(Float32Array.of(2, -1), [2]) }) }],
  ['capped scores and a window', { lengths: [12, 12], settings: settingsOf(2, 1, { softcap: 1.5, window: 5 }) }],
];

describe.each(CASES)('%s', (_, one) => {
  const { qkv, byOutput } = numbersFor(one);
  const { heads } = one.settings;
  // Blocks of several queries, and blocks of one.
  const bounds = [heads * one.lengths.length * 40, heads];

  test.each(bounds)('in blocks of at most %i scores is what it is in one', (mostScores) => {
    const whole = attend(one, qkv, byOutput);
    const inBlocks = attend(one, qkv, byOutput, { mostScores });
    expect(Math.max(...inBlocks.blocks)).toBeGreaterThan(1);
    expect(differenceByLargest(inBlocks.output, whole.output)).toBeLessThan(2e-6);
    expect(differenceByLargest(inBlocks.byQkv, whole.byQkv)).toBeLessThan(2e-6);
  });

  // The gradients of keys are rounded once more for each block; see attention.test.ts.
  test('in blocks in bfloat16 is as near as its rounding allows', () => {
    const expected = attend(one, qkv, byOutput);
    const rounded = attend(one, qkv, byOutput, { mostScores: bounds[0]!, dtype: 'bfloat16' });
    expect(differenceByLargest(rounded.output, expected.output)).toBeLessThan(4 * 2 ** -8);
    expect(differenceByLargest(rounded.byQkv, expected.byQkv)).toBeLessThan(8 * 2 ** -8);
  });
});

// That of one block is in attention.test.ts.
test('the gradient in blocks is that of finite differences', () => {
  const one: Case = { lengths: [7, 6], settings: settingsOf(2, 1, { softcap: 1.5, window: 4 }) };
  const { qkv, byOutput } = numbersFor(one);
  const mostScores = 2 * 2 * 12;
  const numeric = centralDifferences(
    (x) => weightedSum(attend(one, x, byOutput, { mostScores }).output, byOutput),
    qkv,
  );
  const { byQkv, blocks } = attend(one, qkv, byOutput, { mostScores });
  expect(blocks[0]).toBeGreaterThan(1);
  expect(differenceByLargest(byQkv, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
});

test('rows too long to keep weights, computed again, have the gradients of short rows with the same tokens', () => {
  // A window ends what a token can see: the last ones of a long row learn as those of a short one at the same positions.
  const one: Case = { lengths: [600], settings: settingsOf(2, 1, { window: 40 }) };
  const { qkv, byOutput } = numbersFor(one);
  const width = 4 * HEAD_DIM;
  const short: Case = { ...one, lengths: [500] };
  const long = attend(one, qkv, byOutput);
  const kept = attend(short, qkv.slice(0, 500 * width), byOutput.slice(0, 500 * 2 * HEAD_DIM));
  const unaffected = 460 * width; // keys of later queries are at 461 and beyond
  expect(differenceByLargest(long.byQkv.subarray(0, unaffected), kept.byQkv.subarray(0, unaffected))).toBeLessThan(
    2e-6,
  );
});

describe('memory', () => {
  const seen: Tensor[] = [];
  let most = 0;
  afterEach(() => observeOps(null));

  /** Bytes of the live outputs of ops. One that only names memory of another is counted all the same. */
  const liveBytes = () => seen.reduce((sum, tensor) => sum + (tensor.disposed ? 0 : tensor.sizeBytes), 0);
  function watch() {
    seen.length = 0;
    most = 0;
    observeOps(({ outputs }) => {
      seen.push(...outputs);
      most = Math.max(most, liveBytes());
    });
  }

  /** The bytes that one small head saves, and the most that are alive at once, beyond that. */
  function memoryOf(length: number, mostScores: number, window: number | null = null) {
    return scope(() => {
      const settings = settingsOf(1, 1, { window });
      const angles = anglesOf(length, HEAD_DIM, 100);
      const attention = new GroupedAttention({ lengths: [length], heads: 1, angles, windows: [window] }, mostScores);
      const stream = fill([length, 3 * HEAD_DIM], 0.1);
      const gradient = fill([length, HEAD_DIM], 0.1);
      watch();
      const { output, saved } = attention.forward(stream, settings, true);
      const [forward, alive] = [most, liveBytes()];
      output.dispose();
      const savedBytes = liveBytes();
      attention.backward(gradient, saved!, settings);
      observeOps(null);
      return { saved: savedBytes, passing: Math.max(forward - alive, most - savedBytes) };
    });
  }

  test('memory of 8,192 tokens is saved 16 times that of 512; of scores a constant number is alive', () => {
    const scores = 512 * 512;
    const [short, middle, long] = [512, 2048, 8192].map((length) => memoryOf(length, scores)) as [
      ReturnType<typeof memoryOf>,
      ReturnType<typeof memoryOf>,
      ReturnType<typeof memoryOf>,
    ];
    const perToken = 3 * HEAD_DIM * 4; // query, key and value
    expect(short.saved).toBe(512 * perToken + 4 * scores); // short rows keep their weights
    expect(middle.saved).toBe(2048 * perToken);
    expect(long.saved).toBe(8192 * perToken);
    for (const [length, { passing }] of [[512, short] as const, [2048, middle] as const, [8192, long] as const]) {
      // Four float32 numbers of a score, and those of a token: its heads in several forms, and sums by keys.
      expect(passing).toBeLessThan(4 * 4 * scores + 12 * length * perToken);
    }
  });

  test('with a window blocks that nobody sees are not computed', () => {
    let products = 0;
    const compute = (window: number | null) => {
      products = 0;
      return scope(() => {
        const settings = settingsOf(1, 1, { window });
        const rows = { lengths: [2048], heads: 1, angles: anglesOf(2048, HEAD_DIM, 100), windows: [window] };
        const attention = new GroupedAttention(rows, 256 * 256);
        observeOps(({ name, outputs }) => {
          if (name === 'Softmax') products += outputs[0]!.size;
        });
        attention.forward(fill([2048, 3 * HEAD_DIM], 0.1), settings, false);
        observeOps(null);
        return products;
      });
    };
    expect(compute(null)).toBeLessThan(0.6 * 2048 ** 2);
    expect(compute(128)).toBeLessThan(2048 * (128 + 192));
  });

  test('backward frees what was saved, and the scope the rest', () => {
    const one: Case = { lengths: [13, 12], settings: settingsOf(4, 2, { softcap: 2, window: 6 }) };
    const { qkv, byOutput } = numbersFor(one);
    attend(one, qkv, byOutput, { mostScores: 60 }); // makes the constants it needs
    const before = liveTensorCount();
    attend(one, qkv, byOutput, { mostScores: 60 });
    expect(liveTensorCount()).toBe(before);
  });
});

test('short rows are one block, without an op for the division', () => {
  const names: string[] = [];
  scope(() => {
    const settings = settingsOf(2, 1);
    const rows = { lengths: [20, 20], heads: 2, angles: anglesOf(20, HEAD_DIM, 100), windows: [null] };
    const attention = new GroupedAttention(rows);
    const stream = cast(fill([40, 4 * HEAD_DIM], 0.1), 'bfloat16');
    const gradient = cast(fill([40, 2 * HEAD_DIM], 0.1), 'bfloat16');
    observeOps(({ name }) => names.push(name));
    const { saved } = attention.forward(stream, settings, true);
    const forward = names.length;
    attention.backward(gradient, saved!, settings);
    observeOps(null);
    expect({ forward, backward: names.length - forward }).toEqual({ forward: 23, backward: 26 });
  });
});
