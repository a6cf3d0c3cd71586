import { type Activation, ACTIVATIONS as ALL_ACTIVATIONS } from '../kernels/activation.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { split } from '../layout.js';
import type { FloatDType, Tensor } from '../tensor.js';
import { cast, tensorOf } from '../transfer.js';
import {
  type CaseSizes,
  EXACT,
  FUSED_AND_PLAIN,
  kernelSubject,
  type NumericCase,
  SAME_BITS,
  SINGLE_OP,
  SUM,
  seededIndices,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

const DTYPES: readonly FloatDType[] = ['float32', 'bfloat16'];
const ACTIVATIONS: readonly Activation[] = [
  ...(['silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'relu2', 'sigmoid', 'tanh'] as const),
];
const EPSILON = 1e-5;

/** Every fused kernel of norms, activations and losses in every dtype that it has. */
export function kernelCases(sizes: CaseSizes): (NumericCase | TestCase)[] {
  return DTYPES.flatMap((dtype) => [
    ...normCases(dtype, sizes),
    ...activationCases(dtype, sizes),
    ...gatedUnitCases(dtype, sizes),
    ...crossEntropyCases(dtype, sizes),
    ...normTests(dtype),
    ...unitTests(dtype),
    ...[...dropoutTests(dtype), ...crossEntropyTests(dtype)],
  ]);
}

/** `[tokens, hidden]`: an odd width that no vector load divides, one of a small model, one of a large model. */
function normShapes(sizes: CaseSizes): [number, number][] {
  return sizes === 'small' ? [[3, 37], [5, 576]] : [[3, 37], [5, 576], [511, 4096]]; // biome-ignore format: a list
}

function normCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  return normShapes(sizes).flatMap(([tokens, hidden]) => {
    const x = () => seededTensor([tokens, hidden], 1);
    const weight = () => seededTensor([hidden], 2);
    const branch = (seed = 3) => seededTensor([tokens, hidden], seed, dtype);
    const name = `${dtype} [${tokens}, ${hidden}]`;
    const tolerance = SINGLE_OP[dtype];
    return [
      {
        name: `rmsNorm ${name}`,
        subject: kernelSubject('rmsNorm', dtype),
        tolerance,
        compute: (kernels) => ({ ...kernels.of(dtype).rmsNorm(x(), weight(), EPSILON, dtype) }),
      },
      {
        name: `addRmsNorm ${name}`,
        subject: kernelSubject('addRmsNorm', dtype),
        tolerance,
        compute: (kernels) => ({ ...kernels.of(dtype).addRmsNorm(x(), branch(), weight(), EPSILON) }),
      },
      ...(dtype === 'float32' ? [centredCase(x, name)] : []),
      ...[true, false].map(
        (hasResidual): NumericCase => ({
          name: `rmsNormGradient ${name}${hasResidual ? '' : ', no residual'}`,
          subject: kernelSubject('rmsNormGradient', dtype),
          // Its sum over the row cancels most of a number that is a multiple of the norm's output.
          tolerance: SUM[dtype],
          compute: (kernels) => {
            const inverseRms = seededTensor([tokens, 1], 4);
            const residual = hasResidual ? seededTensor([tokens, hidden], 5) : null;
            return { ...kernels.of(dtype).rmsNormGradient(branch(), x(), weight(), inverseRms, residual) };
          },
        }),
      ),
    ];
  });
}

/** A mean is a sum, which the two sides take in another order; what is left of a number is as large as it. */
function centredCase(x: () => Tensor, name: string): NumericCase {
  return {
    name: `centred ${name}`,
    subject: kernelSubject('centred', 'float32'),
    tolerance: SUM.float32,
    compute: (kernels) => ({ output: kernels.of('float32').centred(x()) }),
  };
}

/** `[tokens, width]`: numbers that no vector has, whole vectors, and more than all threads take at once. */
function activationCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 37], [7, 96]] : [[3, 37], [7, 96], [511, 11_008]]; // biome-ignore format: a list
  return shapes.flatMap(([tokens = 0, width = 0]) => {
    const x = () => seededTensor([tokens, width], 12, dtype);
    // The large shape is about the kernel's blocks, for which one activation is enough.
    return (tokens * width > 1_000_000 ? ACTIVATIONS.slice(0, 1) : ACTIVATIONS).flatMap((activation) => {
      const name = `${activation} ${dtype} [${tokens}, ${width}]`;
      return [
        {
          name: `activation ${name}`,
          subject: kernelSubject('activation', dtype),
          tolerance: SINGLE_OP[dtype],
          compute: (kernels) => ({ output: kernels.of(dtype).activation(x(), activation) }),
        },
        {
          name: `activationGradient ${name}`,
          subject: kernelSubject('activationGradient', dtype),
          tolerance: SUM[dtype],
          compute: (kernels) => {
            const gradient = seededTensor([tokens, width], 13, dtype);
            return { gradient: kernels.of(dtype).activationGradient(gradient, x(), activation) };
          },
        },
      ];
    });
  });
}

function gatedUnitCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 37], [7, 96]] : [[3, 37], [7, 96], [257, 11_008]]; // biome-ignore format: a list
  return shapes.flatMap(([tokens = 0, intermediate = 0]) => {
    const gateUp = () => seededTensor([tokens, 2 * intermediate], 6, dtype);
    // The large shape is about the kernel's blocks, for which one activation is enough.
    return (tokens * intermediate > 1_000_000 ? ACTIVATIONS.slice(0, 1) : ACTIVATIONS).flatMap((activation) => {
      const name = `${activation} ${dtype} [${tokens}, ${intermediate}]`;
      return [
        {
          name: `gatedUnit ${name}`,
          subject: kernelSubject('gatedUnit', dtype),
          tolerance: SINGLE_OP[dtype],
          compute: (kernels) => ({ output: kernels.of(dtype).gatedUnit(gateUp(), activation) }),
        },
        {
          name: `gatedUnitGradient ${name}`,
          subject: kernelSubject('gatedUnitGradient', dtype),
          tolerance: SUM[dtype],
          compute: (kernels) => {
            const gradient = seededTensor([tokens, intermediate], 7, dtype);
            const both = kernels.of(dtype).gatedUnitGradient(gradient, gateUp(), activation);
            const [gate, up] = split(both, [intermediate, intermediate], 1);
            return { gate: gate!, up: up! };
          },
        },
      ];
    });
  });
}

/** `[rows, classes]`: fewer classes than a block has threads, and the vocabularies of GPT-2 and Llama 3. */
function crossEntropyCases(dtype: FloatDType, sizes: CaseSizes): NumericCase[] {
  const shapes = sizes === 'small' ? [[3, 7], [5, 1_031]] : [[3, 7], [5, 1_031], [31, 50_257], [8, 128_256]]; // biome-ignore format: a list
  return shapes.map(([rows = 0, classes = 0]) => ({
    name: `crossEntropy ${dtype} [${rows}, ${classes}]`,
    subject: kernelSubject('crossEntropy', dtype),
    tolerance: SUM[dtype],
    compute: (kernels) => {
      const logits = seededTensor([rows, classes], 8, dtype);
      return { ...kernels.of(dtype).crossEntropy(logits, seededIndices(rows, classes, 9)) };
    },
  }));
}

function normTests(dtype: FloatDType): TestCase[] {
  const weight = () => spreadTensor([83], 14, 1);
  const summed = (kernels: KernelSet) => {
    const [x, branch] = [spreadTensor([300, 83], 15, 1), spreadTensor([300, 83], 16, 1, dtype)];
    return kernels.of(dtype).addRmsNorm(x, branch, weight(), EPSILON);
  };
  const ofSum = {
    kernels: 'same' as const,
    compute: (kernels: KernelSet) => ({
      ...kernels.of(dtype).rmsNorm(summed(kernels).sum, weight(), EPSILON, dtype),
    }),
  };
  const norm = (kernels: KernelSet) => {
    const { output, inverseRms } = summed(kernels);
    return { output, inverseRms };
  };
  const centred = testCase('centred float32, numbers to 3', FUSED_AND_PLAIN.float32, (kernels) => ({
    output: kernels.of('float32').centred(spreadTensor([37, 48], 17, 3)),
  }));
  return [
    testCase(`addRmsNorm ${dtype}, as the norm of a sum that was made before`, SAME_BITS, norm, ofSum),
    ...(dtype === 'float32' ? [centred] : []),
  ];
}

/** Numbers where functions are nearly linear, where they bend, and where exp would overflow. */
function unitTests(dtype: FloatDType): TestCase[] {
  const units = (activation: Activation, spread: number) => (kernels: KernelSet) => {
    const own = kernels.of(dtype);
    const gateUp = spreadTensor([19, 2 * 33], 18, spread, dtype);
    const gradient = spreadTensor([19, 33], 19, 1, dtype);
    const byGateUp = spreadTensor([19, 66], 20, 1, dtype);
    return {
      unit: own.gatedUnit(gateUp, activation),
      'gradient of the unit': own.gatedUnitGradient(gradient, gateUp, activation),
      activation: own.activation(gateUp, activation),
      'gradient of the activation': own.activationGradient(byGateUp, gateUp, activation),
    };
  };
  return ALL_ACTIVATIONS.flatMap((activation) =>
    [0.1, 6, 120].map((spread) =>
      testCase(
        `gated unit and activation ${activation} ${dtype}, numbers to ${spread}`,
        FUSED_AND_PLAIN[dtype],
        units(activation, spread),
      ),
    ),
  );
}

function dropoutTests(dtype: FloatDType): TestCase[] {
  const shapes = [[1], [3, 67], [37, 300]];
  return [0.05, 0.5].map((rate) =>
    testCase(`dropout ${dtype} of ${rate}`, EXACT, (kernels) =>
      Object.fromEntries(
        shapes.map((shape) => [
          `of [${shape.join(', ')}]`,
          kernels.of(dtype).dropout(spreadTensor(shape, 21, 1, dtype), rate, [5, 77]),
        ]),
      ),
    ),
  );
}

function crossEntropyTests(dtype: FloatDType): TestCase[] {
  const rows = (count: number, label: (row: number) => number) =>
    tensorOf(
      Int32Array.from({ length: count }, (_, row) => label(row)),
      [count],
    );
  // In steps of 1, so that most rows have several greatest ones, at the label or before or behind it.
  const values = Float32Array.from({ length: 90 * 37 }, (_, i) => Math.round(2 * Math.sin(i * i)));
  const labelOf = (row: number) => {
    const own = values.subarray(row * 37, (row + 1) * 37);
    const greatest = Math.max(...own);
    return [own.indexOf(greatest), own.lastIndexOf(greatest), (row * 53) % 37][row % 3]!;
  };
  return [
    testCase(`crossEntropy ${dtype} of probabilities from nearly 1 to nearly 0`, FUSED_AND_PLAIN[dtype], (kernels) => {
      const logits = spreadTensor([23, 301], 22, 40, dtype);
      const { loss, gradient } = kernels.of(dtype).crossEntropy(
        logits,
        rows(23, (row) => (row * 53) % 301),
      );
      return { loss, gradient };
    }),
    testCase(
      `crossEntropy ${dtype}, labels that are the first of the greatest logits, also of equal ones`,
      EXACT,
      (kernels) => {
        const logits = cast(tensorOf(values, [90, 37]), dtype);
        return { correct: kernels.of(dtype).crossEntropy(logits, rows(90, labelOf)).correct };
      },
    ),
  ];
}
