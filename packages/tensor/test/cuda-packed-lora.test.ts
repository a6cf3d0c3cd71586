import './emulated-gpu.js';
import { expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { engine } from '../src/binding.js';
import { observeOps } from '../src/execute.js';
import {
  adaptedBackwardInPieces,
  adaptedForwardInPieces,
  isAdaptedAlone,
  padWeight,
  rawAdaptedPackedBackward,
  rawAdaptedPackedForward,
} from '../src/kernels/adapted-product.js';
import { chooseKernels } from '../src/kernels/kernel-table.js';
import type { Kernels } from '../src/kernels/kernels.js';
import { type LoraLayout, parametersOf } from '../src/kernels/lora.js';
import type { PackedMatrix } from '../src/kernels/packed-matrix.js';
import { ScaledMatrix } from '../src/kernels/scaled.js';
import { rowsOf } from '../src/layout.js';
import { type QuantizedShape, seededPacked } from '../src/numeric-cases/quantized-cases.js';
import { type DType, type FloatDType, scope, type Tensor } from '../src/tensor.js';
import { tensorOf, tensorOfBytes, toFloat32Array } from '../src/transfer.js';
import { expectNear, numbers, partOn, TOKENS } from './one-adapter.js';

// An adapter in the padding of weights in 4 and 8 bits that are decoded for a product.

const kernels = chooseKernels('fused');
const kernelsFor = (dtype: DType) => kernels.of(dtype);

/** Decoded 64 rows or columns at a time, of which the last ones are fewer. */
const IN_PIECES = 1;

/** Ranks that are no multiples of 8; where the output is wider, rows before, between and after the adapted ones. */
function layoutOf(inFeatures: number, outFeatures: number): LoraLayout {
  const adapted =
    inFeatures < outFeatures
      ? [
          { rank: 4, scale: 2, outFeatures: 70, firstRow: 8 },
          { rank: 9, scale: 0.5, outFeatures: outFeatures - 100, firstRow: 90 },
        ]
      : [
          { rank: 4, scale: 2, outFeatures: 70, firstRow: 0 },
          { rank: 9, scale: 0.5, outFeatures: outFeatures - 70, firstRow: 70 },
        ];
  return { offset: 3, inFeatures, outFeatures, adapted };
}

/** Scales for blocks that are shorter than a row, whose length is no multiple of what a thread decodes at once. */
function oddMatrix(rows: number, columns: number): ScaledMatrix {
  const codes = Uint8Array.from({ length: rows * columns }, (_, i) => ((i * 37) % 64) + 128 * (i % 2));
  const scales = normalNumbers(Math.ceil(rows / 4) * Math.ceil(columns / 32), 30);
  const modules = [{ rows, blockRows: 4, scales }];
  return new ScaledMatrix(columns, 32, modules, tensorOfBytes(codes, [codes.length], 'uint8'));
}

const seeded = (form: QuantizedShape['form']) => (rows: number, columns: number) =>
  seededPacked({ columns, rows: [rows - 40, 39, 1], form });

type Make = (rows: number, columns: number) => PackedMatrix;
const PACKED: { bits: string; make: Make; columns: [number, number]; rows: [number, number] }[] = [
  { bits: '4 bits', make: seeded('4 bits'), columns: [128, 200], rows: [192, 136] },
  {
    ...{ bits: '4 bits, double quantization', make: seeded('4 bits, double quantization') },
    ...{ columns: [128, 200], rows: [128, 128] },
  },
  { bits: '8 bits', make: seeded('8 bits'), columns: [136, 200], rows: [200, 136] },
  { bits: '8 bits, short blocks', make: oddMatrix, columns: [133, 203], rows: [203, 133] },
];
const CASES = PACKED.flatMap(({ bits, make, ...sizes }) =>
  (['columns', 'rows'] as const).map((side) => ({ bits, make, side, layout: layoutOf(...sizes[side]) })),
);
const IN_BOTH = CASES.flatMap((one) => (['float32', 'bfloat16'] as const).map((dtype) => ({ ...one, dtype })));

function withMatrix(make: Make, { inFeatures, outFeatures }: LoraLayout, use: (matrix: PackedMatrix) => void): void {
  scope(() => {
    const matrix = make(outFeatures, inFeatures);
    use(matrix);
    matrix.dispose();
  });
}

const launchesOf = (kernel: string) => engine.cuda!.statistics().kernels[kernel] ?? 0;
const inputsOf = ({ inFeatures, outFeatures }: LoraLayout, dtype: FloatDType) => ({
  x: numbers([TOKENS, inFeatures], 7, dtype),
  gradient: numbers([TOKENS, outFeatures], 8, dtype),
});

test.each(IN_BOTH)('in $dtype, an adapter in $side beside weights in $bits is what it is by itself', (one) => {
  const { make, layout, dtype } = one;
  withMatrix(make, layout, (matrix) => {
    const part = partOn(layout, dtype);
    expect(kernels.decodedArePadded(dtype)).toBe(true);
    expect(isAdaptedAlone([part], TOKENS)).toBe(true);
    const { x, gradient } = inputsOf(layout, dtype);
    const { adaptedPackedForward, adaptedPackedBackward } = kernels.of(dtype);
    const plain = rawAdaptedPackedForward(kernelsFor, x, matrix, part);
    const forward = adaptedPackedForward(x, matrix, part);
    expectNear(forward.output, plain.output, dtype);
    // The forms of `low` are the same, so a pass may go on either way.
    expectNear(forward.low[0]!, plain.low[0]!, dtype);
    const inPieces = adaptedForwardInPieces(x, matrix, part, IN_PIECES);
    expect(toFloat32Array(inPieces.output)).toEqual(toFloat32Array(forward.output));
    expect(toFloat32Array(inPieces.low[0]!)).toEqual(toFloat32Array(forward.low[0]!));
    for (const wanted of [true, false]) {
      const of = [gradient, x, forward.low, matrix, part, wanted] as const;
      const plainly = rawAdaptedPackedBackward(kernelsFor, gradient, x, plain.low, matrix, part, wanted);
      const [whole, pieces] = [adaptedPackedBackward(...of), adaptedBackwardInPieces(...of, IN_PIECES)];
      for (const backward of [whole, pieces]) {
        expect(backward.byInput === null).toBe(!wanted);
        if (wanted) expectNear(backward.byInput!, plainly.byInput!, dtype);
        expectNear(backward.byParameters[0]!, plainly.byParameters[0]!, dtype);
      }
      if (wanted) expect(toFloat32Array(pieces.byInput!)).toEqual(toFloat32Array(whole.byInput!));
    }
  });
});

test.each(CASES)('nothing of an adapter in $side beside weights in $bits is there for another', ({ make, layout }) => {
  withMatrix(make, layout, (matrix) => {
    const { x, gradient } = inputsOf(layout, 'bfloat16');
    const own = kernels.of('bfloat16');
    const frozen = () => [own.quantizedProduct(x, matrix, true), own.quantizedProduct(gradient, matrix, false)];
    const adapted = (seed: number) => {
      const part = partOn(layout, 'bfloat16', seed);
      const { output, low } = own.adaptedPackedForward(x, matrix, part);
      const { byInput, byParameters } = own.adaptedPackedBackward(gradient, x, low, matrix, part, true);
      return [output, low[0]!, byInput!, byParameters[0]!];
    };
    const numbersOf = (tensors: Tensor[]) => tensors.map((tensor) => toFloat32Array(tensor));
    const [withoutAny, alone] = [numbersOf(frozen()), numbersOf(adapted(10))];
    expect(numbersOf(adapted(11))).not.toEqual(alone);
    expect(numbersOf(adapted(10))).toEqual(alone);
    expect(numbersOf(frozen())).toEqual(withoutAny);
  });
});

test.each(CASES)('the gradients of an adapter in $side beside weights in $bits are finite differences', (one) => {
  const { make, layout } = one;
  withMatrix(make, layout, (matrix) => {
    const { adaptedPackedForward, adaptedPackedBackward } = kernels.of('float32');
    const xSize = TOKENS * layout.inFeatures;
    const count = layout.offset + parametersOf(layout);
    const [x, parameters] = [normalNumbers(xSize, 7), normalNumbers(count, 10)];
    const { gradient } = inputsOf(layout, 'float32');
    const byOutput = toFloat32Array(gradient);
    const at = (ofX: Float32Array, ofParameters: Float32Array) => {
      const part = { ...partOn(layout, 'float32'), parameters: tensorOf(ofParameters, [count]) };
      const input = tensorOf(ofX, [TOKENS, layout.inFeatures]);
      const { output, low } = adaptedPackedForward(input, matrix, part);
      const loss = toFloat32Array(output).reduce((sum, value, i) => sum + value * byOutput[i]!, 0);
      return { part, input, low, loss };
    };
    const { part, input, low } = at(x, parameters);
    const { byInput, byParameters } = adaptedPackedBackward(gradient, input, low, matrix, part, true);
    const along = (from: Float32Array, direction: Float32Array, step: number) =>
      from.map((value, i) => value + step * direction[i]!);
    const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    // The loss is a polynomial of the second degree in either, of which central differences are exact.
    const [ofX, ofAll] = [normalNumbers(xSize, 20), normalNumbers(count, 21)];
    const byX = at(along(x, ofX, 0.5), parameters).loss - at(along(x, ofX, -0.5), parameters).loss;
    const byAll = at(x, along(parameters, ofAll, 0.5)).loss - at(x, along(parameters, ofAll, -0.5)).loss;
    expect(product(toFloat32Array(byInput!), ofX) / byX).toBeCloseTo(1, 4);
    const own = ofAll.subarray(layout.offset);
    expect(product(toFloat32Array(byParameters[0]!), own) / byAll).toBeCloseTo(1, 4);
  });
});

test.each([
  ['Dequantize', 'QuantizedFewRows16', seeded('4 bits')],
  ['DequantizeScaled', 'ScaledFewRows16', seeded('8 bits')],
] as const)('few rows with an adapter decode nothing to memory: no %s', (decode, few, make) => {
  const layout = layoutOf(128, 200);
  withMatrix(make, layout, (matrix) => {
    const { adaptedPackedForward } = kernels.of('bfloat16');
    const x = numbers([TOKENS, 128], 7, 'bfloat16');
    for (const tokens of [16, 17]) {
      const rows = { first: 0, count: tokens };
      const part = { ...partOn(layout, 'bfloat16'), rows };
      const before = [launchesOf(`${decode}BFloat16`), launchesOf(few)];
      const own = rowsOf(x, rows);
      const { output } = adaptedPackedForward(own, matrix, part);
      const after = [launchesOf(`${decode}BFloat16`), launchesOf(few)];
      expect(after.map((count, i) => count - before[i]!)).toEqual(tokens === 16 ? [0, 1] : [1, 0]);
      expectNear(output, rawAdaptedPackedForward(kernelsFor, own, matrix, part).output, 'bfloat16');
    }
  });
});

test.each(CASES.filter(({ bits }) => bits === '4 bits'))(
  'beside weights in 4 bits, an adapter in $side takes fewer launches',
  (one) => {
    const { make, layout, side } = one;
    withMatrix(make, layout, (matrix) => {
      const { x, gradient } = inputsOf(layout, 'bfloat16');
      const part = partOn(layout, 'bfloat16');
      const { adaptedPackedForward, adaptedPackedBackward } = kernels.of('bfloat16');
      const launchesOfPass = (pass: () => void) => {
        const before = engine.cuda!.statistics();
        pass();
        const after = engine.cuda!.statistics();
        expect(after.uploads + after.downloads + after.waits).toBe(before.uploads + before.downloads + before.waits);
        return after.launches - before.launches;
      };
      const { low } = adaptedPackedForward(x, matrix, part);
      const joint = {
        forward: launchesOfPass(() => adaptedPackedForward(x, matrix, part)),
        backward: launchesOfPass(() => adaptedPackedBackward(gradient, x, low, matrix, part, true)),
      };
      const beside = {
        forward: launchesOfPass(() => rawAdaptedPackedForward(kernelsFor, x, matrix, part)),
        backward: launchesOfPass(() => rawAdaptedPackedBackward(kernelsFor, gradient, x, low, matrix, part, true)),
      };
      // Decoding and the product; the product of a longer depth has as many besides, a wider one has one less.
      expect(beside).toEqual({ forward: 6, backward: 8 });
      expect(joint).toEqual(side === 'columns' ? { forward: 6, backward: 7 } : { forward: 5, backward: 8 });
    });
  },
);

/** Ops of each pass of an adapter at these weights, decoded and as they are, and the result of each. */
function passesOf(kernels: Kernels, layout: LoraLayout, matrix: PackedMatrix) {
  const part = partOn(layout, 'bfloat16');
  const { x, gradient } = inputsOf(layout, 'bfloat16');
  const weight = padWeight(kernels.dequantizeRows(matrix, 0, matrix.rows, 'bfloat16'));
  const observed = <Result>(pass: () => Result) => {
    const names: string[] = [];
    observeOps(({ name }) => names.push(name));
    const result = pass();
    observeOps(null);
    return { names: names.filter((name) => name.startsWith('Lorasmith')), result };
  };
  const packed = observed(() => kernels.adaptedPackedForward(x, matrix, part));
  const dense = observed(() => kernels.adaptedForward(x, weight, part));
  const { low } = packed.result;
  const packedBack = observed(() => kernels.adaptedPackedBackward(gradient, x, low, matrix, part, true));
  const denseBack = observed(() => kernels.adaptedBackward(gradient, x, low, weight, part, true));
  return { packed, dense, packedBack, denseBack };
}

test.each(CASES.filter(({ bits }) => bits === '4 bits'))(
  'with GPU_LORA_PADDING=depth, an adapter in $side is a part of the product that it lengthens alone',
  (one) => {
    const { make, layout, side } = one;
    withMatrix(make, layout, (matrix) => {
      const both = passesOf(kernels.of('bfloat16'), layout, matrix);
      try {
        process.env.GPU_LORA_PADDING = 'depth';
        const deep = passesOf(chooseKernels('fused').of('bfloat16'), layout, matrix);
        expect(both.packed.names).toEqual(['LorasmithAdaptedQuantizedForward']);
        expect(both.packedBack.names).toEqual(['LorasmithAdaptedQuantizedBackward']);
        expect(both.dense.names).toEqual(['LorasmithAdaptedForward']);
        expect(both.denseBack.names).toEqual(['LorasmithAdaptedBackward']);
        const joint = side === 'columns' ? 'forward' : 'backward';
        const named = { packed: deep.packed.names, dense: deep.dense.names };
        const namedBack = { packed: deep.packedBack.names, dense: deep.denseBack.names };
        const besideForward = {
          packed: ['LorasmithQuantizedProduct', 'LorasmithLoraForward'],
          dense: ['LorasmithPaddedProduct', 'LorasmithLoraForward'],
        };
        const besideBackward = {
          packed: ['LorasmithQuantizedProduct', 'LorasmithLoraBackward'],
          dense: ['LorasmithPaddedProduct', 'LorasmithLoraBackward'],
        };
        const [packed, packedBack] = [both.packed.names, both.packedBack.names];
        const [dense, denseBack] = [both.dense.names, both.denseBack.names];
        expect(named).toEqual(joint === 'forward' ? { packed, dense } : besideForward);
        expect(namedBack).toEqual(joint === 'backward' ? { packed: packedBack, dense: denseBack } : besideBackward);
        for (const form of ['packed', 'dense'] as const) {
          expectNear(deep[form].result.output, both[form].result.output, 'bfloat16');
          const [deepBack, bothBack] = [deep[`${form}Back`].result, both[`${form}Back`].result];
          expectNear(deepBack.byInput!, bothBack.byInput!, 'bfloat16');
          expectNear(deepBack.byParameters[0]!, bothBack.byParameters[0]!, 'bfloat16');
        }
      } finally {
        delete process.env.GPU_LORA_PADDING;
      }
    });
  },
);
