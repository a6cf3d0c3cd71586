import { describe, expect, test } from 'vitest';
import {
  centralDifferences,
  FINITE_DIFFERENCE_TOLERANCE,
  weightedSum,
} from '../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { openSafetensors, toFloat32 } from '../../../weight-files/src/index.js';
import { engine } from '../binding.js';
import { concat, rowsOf, slice } from '../layout.js';
import { type FloatDType, liveTensorCount, scope, type Tensor } from '../tensor.js';
import { cast, tensorOf, toFloat32Array } from '../transfer.js';
import type { DeltaInputs, DeltaSettings } from './gated-delta.js';
import { chooseKernels, type KernelSet } from './kernel-table.js';
import { tokenRows } from './token-rows.js';

// The convolution and the gated delta rule: against PyTorch, against finite differences, fused against TensorFlow's ops.

const FIXTURE = new URL('../../../../test/fixtures/gated-delta/expected.safetensors', import.meta.url).pathname;
const LENGTHS = [1, 3, 5, 63, 64, 65, 130];
const TAPS = 4;
const SETTINGS: DeltaSettings = { keyHeads: 2, valueHeads: 4, keySize: 6, valueSize: 5 };

const total = (lengths: readonly number[]) => lengths.reduce((sum, length) => sum + length, 0);
const widthOf = ({ keyHeads, valueHeads, keySize, valueSize }: DeltaSettings) => {
  return 2 * keyHeads * keySize + valueHeads * valueSize;
};

interface Numbers {
  x: Float32Array<ArrayBuffer>;
  weight: Float32Array<ArrayBuffer>;
  ba: Float32Array<ArrayBuffer>;
  aLog: Float32Array<ArrayBuffer>;
  dtBias: Float32Array<ArrayBuffer>;
}

function randomNumbers(tokens: number, settings: DeltaSettings): Numbers {
  const { valueHeads } = settings;
  const width = widthOf(settings);
  return {
    x: normalNumbers(tokens * width, 1),
    weight: normalNumbers(width * TAPS, 2).map((value) => value / 2),
    ba: normalNumbers(tokens * 2 * valueHeads, 3),
    aLog: normalNumbers(valueHeads, 4).map((value) => 2 * value - 1),
    dtBias: normalNumbers(valueHeads, 5),
  };
}

function inputsOf(
  numbers: Numbers,
  qkv: Tensor,
  lengths: readonly number[],
  { valueHeads }: DeltaSettings,
): DeltaInputs {
  const ba = cast(tensorOf(numbers.ba, [total(lengths), 2 * valueHeads]), qkv.dtype);
  const ofHeads = (values: Float32Array<ArrayBuffer>) => tensorOf(values, [valueHeads]);
  return { qkv, ba, aLog: ofHeads(numbers.aLog), dtBias: ofHeads(numbers.dtBias), rows: tokenRows(lengths) };
}

/** Convolution, then the rule, and the gradients by x and by b and a where one by the output is given. */
function computed(
  kernels: KernelSet,
  numbers: Numbers,
  lengths: readonly number[],
  settings: DeltaSettings,
  byOutput?: Float32Array<ArrayBuffer>,
  dtype: FloatDType = 'float32',
) {
  return scope(() => {
    const { causalConvolution, causalConvolutionGradient, gatedDelta } = kernels.of(dtype);
    const { valueHeads, valueSize } = settings;
    const width = widthOf(settings);
    const x = cast(tensorOf(numbers.x, [total(lengths), width]), dtype);
    const weight = tensorOf(numbers.weight, [width, TAPS]);
    const rows = tokenRows(lengths);
    const inputs = inputsOf(numbers, causalConvolution(x, weight, rows, null), lengths, settings);
    const record = byOutput !== undefined;
    const { output, kept } = gatedDelta.forward(inputs, settings, { before: null, record, keepLast: false });
    if (byOutput === undefined) return { output: toFloat32Array(output) };
    const gradient = cast(tensorOf(byOutput, [total(lengths), valueHeads * valueSize]), dtype);
    const { byQkv, byBa } = gatedDelta.backward(gradient, inputs, kept!, settings);
    const byX = causalConvolutionGradient(byQkv, x, weight, rows);
    return { output: toFloat32Array(output), byX: toFloat32Array(byX), byBa: toFloat32Array(byBa) };
  });
}

/** The length of the difference, as vectors, of that of what is expected. */
function distance(actual: Float32Array, expected: Float32Array): number {
  expect(actual.length).toBe(expected.length);
  const length = (values: Float32Array) => Math.hypot(...values);
  return length(actual.map((value, i) => value - expected[i]!)) / length(expected);
}

describe.each(['raw', 'fused'] as const)('%s kernels', (source) => {
  const kernels = chooseKernels(source);

  test('have the outputs and gradients of transformers, chunked and token by token', async () => {
    const file = await openSafetensors(FIXTURE);
    const read = async (name: string) => toFloat32(await file.read(name), 'F32') as Float32Array<ArrayBuffer>;
    const numbers = {
      x: await read('x'),
      weight: await read('weight'),
      ba: await read('ba'),
      aLog: await read('a_log'),
      dtBias: await read('dt_bias'),
    };
    const { output, byX, byBa } = computed(kernels, numbers, LENGTHS, SETTINGS, await read('by_output'));
    // The float32 forms of transformers are up to 8e-7 from float64, which the names without a prefix are.
    for (const [prefix, bound] of [
      ['', 6e-7],
      ['chunk.', 1.2e-6],
      ['recurrent.', 8e-7],
    ] as const) {
      expect(distance(output, await read(`${prefix}output`)), `${prefix}output`).toBeLessThan(bound);
      expect(distance(byX!, await read(`${prefix}by_x`)), `${prefix}by_x`).toBeLessThan(bound);
      expect(distance(byBa!, await read(`${prefix}by_ba`)), `${prefix}by_ba`).toBeLessThan(bound);
    }
    await file.close();
  });

  test('have the gradients that finite differences have', () => {
    const lengths = [2, 7];
    const settings = { keyHeads: 1, valueHeads: 2, keySize: 3, valueSize: 2 };
    const numbers = randomNumbers(total(lengths), settings);
    // Far from zero, where the length of a key bends within a step.
    numbers.x = numbers.x.map((value) => 4 * value);
    const byOutput = normalNumbers(total(lengths) * 4, 6);
    const { byX, byBa } = computed(kernels, numbers, lengths, settings, byOutput);
    const numeric = (of: 'x' | 'ba') =>
      centralDifferences(
        (values) => weightedSum(computed(kernels, { ...numbers, [of]: values }, lengths, settings).output, byOutput),
        numbers[of],
      );
    expect(differenceByLargest(byX!, numeric('x'))).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    expect(differenceByLargest(byBa!, numeric('ba'))).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  });

  test('leave no tensors', () => {
    const numbers = randomNumbers(4, SETTINGS);
    const before = liveTensorCount();
    computed(kernels, numbers, [3, 1], SETTINGS, normalNumbers(4 * 20, 6));
    expect(liveTensorCount()).toBe(before);
  });
});

describe('fused kernels', () => {
  const kernels = chooseKernels('fused');

  // As in the released models; more columns than a vector has, and fewer; one head for each key.
  test.each([
    { keyHeads: 1, valueHeads: 2, keySize: 128, valueSize: 128, lengths: [70] },
    { keyHeads: 2, valueHeads: 2, keySize: 16, valueSize: 40, lengths: [129, 1] },
    { keyHeads: 1, valueHeads: 3, keySize: 33, valueSize: 7, lengths: [64, 65] },
  ])('are like the plain ones with $valueHeads heads of $keySize by $valueSize', ({ lengths, ...settings }) => {
    const numbers = randomNumbers(total(lengths), settings);
    const byOutput = normalNumbers(total(lengths) * settings.valueHeads * settings.valueSize, 6);
    const fused = computed(kernels, numbers, lengths, settings, byOutput);
    const plain = computed(chooseKernels('raw'), numbers, lengths, settings, byOutput);
    for (const part of ['output', 'byX', 'byBa'] as const) {
      expect(distance(fused[part]!, plain[part]!), part).toBeLessThan(2e-6);
    }
  });

  test.each(['float32', 'bfloat16'] as const)('in %s give a row the same bits in any company', (dtype) => {
    const lengths = [65, 3, 130, 1];
    const numbers = randomNumbers(total(lengths), SETTINGS);
    const byOutput = normalNumbers(total(lengths) * 20, 6);
    const together = computed(kernels, numbers, lengths, SETTINGS, byOutput, dtype);
    let first = 0;
    for (const length of lengths) {
      const own = (values: Float32Array<ArrayBuffer>) => {
        const width = values.length / total(lengths);
        return values.slice(first * width, (first + length) * width);
      };
      const alone = computed(
        kernels,
        { ...numbers, x: own(numbers.x), ba: own(numbers.ba) },
        [length],
        SETTINGS,
        own(byOutput),
        dtype,
      );
      for (const part of ['output', 'byX', 'byBa'] as const) {
        expect(alone[part], part).toEqual(own(together[part]! as Float32Array<ArrayBuffer>));
      }
      first += length;
    }
  });

  test('keep what is not a number in its row', () => {
    const lengths = [66, 70, 2];
    const numbers = randomNumbers(total(lengths), SETTINGS);
    const byOutput = normalNumbers(total(lengths) * 20, 6);
    const sound = computed(kernels, numbers, lengths, SETTINGS, byOutput);
    numbers.x[70 * widthOf(SETTINGS)] = Number.NaN;
    const { output, byX } = computed(kernels, numbers, lengths, SETTINGS, byOutput);
    const others = (values: Float32Array) => {
      const width = values.length / total(lengths);
      return [...values.subarray(0, 66 * width), ...values.subarray(136 * width)];
    };
    expect(output.subarray(70 * 20, 71 * 20).some(Number.isNaN)).toBe(true);
    expect(others(output)).toEqual(others(sound.output));
    expect(others(byX!)).toEqual(others(sound.byX!));
  });

  test.each(['float32', 'bfloat16'] as const)('in %s read texts in pieces with the bits of the whole', (dtype) => {
    const lengths = [70, 9];
    const numbers = randomNumbers(total(lengths), SETTINGS);
    const width = widthOf(SETTINGS);
    const whole = computed(kernels, numbers, lengths, SETTINGS, undefined, dtype).output;
    const pieces = scope(() => {
      const { causalConvolution, gatedDelta } = kernels.of(dtype);
      const weight = tensorOf(numbers.weight, [width, TAPS]);
      const all = cast(tensorOf(numbers.x, [total(lengths), width]), dtype);
      const whatever = inputsOf(numbers, all, lengths, SETTINGS);
      const starts = [0, 70];
      let tails: Tensor | null = null;
      let states: Tensor | null = null;
      const outputs: Tensor[][] = [[], []];
      let read = [0, 0];
      for (const counts of [
        [1, 5],
        [2, 1],
        [64, 1],
        [3, 2],
      ] as const) {
        const of = (x: Tensor, text: number) => rowsOf(x, { first: starts[text]! + read[text]!, count: counts[text]! });
        const x = concat([of(all, 0), of(all, 1)], 0);
        const rows = tokenRows(counts);
        const qkv = causalConvolution(x, weight, rows, tails);
        const ba = concat([of(whatever.ba, 0), of(whatever.ba, 1)], 0);
        const inputs = { ...whatever, qkv, ba, rows };
        const { output, last } = gatedDelta.forward(inputs, SETTINGS, {
          before: states,
          record: false,
          keepLast: true,
        });
        states = last;
        outputs[0]!.push(rowsOf(output, { first: 0, count: counts[0] }));
        outputs[1]!.push(slice(output, [counts[0], 0], [-1, -1]));
        read = read.map((before, text) => before + counts[text]!);
        const zeros = cast(tensorOf(new Float32Array(3 * width), [3, width]), dtype);
        const tailOf = (text: number) => {
          const known = concat([zeros, rowsOf(all, { first: starts[text]!, count: read[text]! })], 0);
          return rowsOf(known, { first: read[text]!, count: 3 });
        };
        tails = concat([tailOf(0), tailOf(1)], 0);
      }
      return toFloat32Array(concat(outputs.flat(), 0));
    });
    expect(pieces).toEqual(whole);
  });

  test('in bfloat16 compute in float32 and round once', () => {
    const lengths = [66];
    const numbers = randomNumbers(66, SETTINGS);
    const rounded = (values: Float32Array<ArrayBuffer>) =>
      scope(() =>
        toFloat32Array(cast(cast(tensorOf(values, [values.length]), 'bfloat16'), 'float32')),
      ) as typeof values;
    const exact = { ...numbers, x: rounded(numbers.x), ba: rounded(numbers.ba) };
    const results = (dtype: FloatDType) =>
      scope(() => {
        const qkv = cast(tensorOf(exact.x, [66, widthOf(SETTINGS)]), dtype);
        const inputs = inputsOf(exact, qkv, lengths, SETTINGS);
        const byOutput = cast(tensorOf(rounded(normalNumbers(66 * 20, 6)), [66, 20]), dtype);
        const { gatedDelta } = kernels.of(dtype);
        const { output, kept } = gatedDelta.forward(inputs, SETTINGS, { before: null, record: true, keepLast: false });
        const { byQkv, byBa } = gatedDelta.backward(byOutput, inputs, kept!, SETTINGS);
        return [output, byQkv, byBa].map(toFloat32Array);
      });
    const expected = results('float32');
    for (const [i, actual] of results('bfloat16').entries())
      expect(actual).toEqual(rounded(expected[i]! as Float32Array<ArrayBuffer>));
  });

  test('keep at most one state for every 64 tokens', () => {
    const lengths = [64, 65, 129, 1];
    const numbers = randomNumbers(total(lengths), SETTINGS);
    scope(() => {
      const inputs = inputsOf(numbers, tensorOf(numbers.x, [total(lengths), widthOf(SETTINGS)]), lengths, SETTINGS);
      const { kept } = kernels.of('float32').gatedDelta.forward(inputs, SETTINGS, {
        before: null,
        record: true,
        keepLast: false,
      });
      expect(kept!.shape.slice(0, 2)).toEqual([Math.floor(total(lengths) / 64), SETTINGS.valueHeads]);
    });
  });

  test('reject heads that do not fit', () => {
    const numbers = randomNumbers(2, SETTINGS);
    scope(() => {
      const inputs = inputsOf(numbers, tensorOf(numbers.x, [2, widthOf(SETTINGS)]), [2], SETTINGS);
      const run = (change: Partial<DeltaInputs>, settings = SETTINGS) =>
        kernels.of('float32').gatedDelta.forward({ ...inputs, ...change }, settings, {
          before: null,
          record: false,
          keepLast: false,
        });
      expect(() => run({}, { ...SETTINGS, keyHeads: 3 })).toThrow('key_heads must divide value_heads');
      expect(() => run({ aLog: tensorOf(new Float32Array(3), [3]) })).toThrow('must be of the value heads');
      // A card does not read the offsets before its kernels run.
      if (engine.kind === 'cpu') expect(() => run({ rows: tokenRows([1]) })).toThrow('the rows must be all tokens');
    });
  });

  test.runIf(engine.kind === 'cuda')(
    'on a card reject wider heads and longer convolutions than it has kernels for',
    () => {
      scope(() => {
        const settings = { keyHeads: 1, valueHeads: 1, keySize: 132, valueSize: 4 };
        const numbers = randomNumbers(2, settings);
        const inputs = inputsOf(numbers, tensorOf(numbers.x, [2, widthOf(settings)]), [2], settings);
        const { gatedDelta, causalConvolution } = kernels.of('float32');
        const options = { before: null, record: false, keepLast: false };
        expect(() => gatedDelta.forward(inputs, settings, options)).toThrow('at most 128 numbers in a head');
        const weight = tensorOf(new Float32Array(4 * 9), [4, 9]);
        const x = tensorOf(new Float32Array(8), [2, 4]);
        expect(() => causalConvolution(x, weight, tokenRows([2]), null)).toThrow('at most 8 taps');
      });
    },
  );
});
