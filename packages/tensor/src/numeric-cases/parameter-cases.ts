import { padWeight } from '../kernels/adapted-product.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { type LoraLayout, type LoraPart, parametersOf } from '../kernels/lora.js';
import { concat, rowsOf, split } from '../layout.js';
import type { DType, FloatDType, Tensor } from '../tensor.js';
import {
  ADDED_PRODUCT,
  type CaseSizes,
  EXACT,
  kernelSubject,
  type NumericCase,
  SINGLE_OP,
  SUM,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

// What is computed with the vector of all parameters of an adapter.

/** Two adapted layers of a group of three, and one of a real model: its ranks differ, and nothing is a multiple of 4. */
function layouts(sizes: CaseSizes): LoraLayout[] {
  const small: LoraLayout = {
    offset: 5,
    inFeatures: 37,
    outFeatures: 71,
    adapted: [
      { rank: 3, scale: 2, outFeatures: 20, firstRow: 0 },
      { rank: 8, scale: 0.5, outFeatures: 33, firstRow: 38 },
    ],
  };
  const full: LoraLayout = {
    offset: 64,
    inFeatures: 4096,
    outFeatures: 6144,
    adapted: [
      { rank: 16, scale: 2, outFeatures: 4096, firstRow: 0 },
      { rank: 16, scale: 2, outFeatures: 1024, firstRow: 4096 },
      { rank: 16, scale: 2, outFeatures: 1024, firstRow: 5120 },
    ],
  };
  return sizes === 'small' ? [small] : [small, full];
}

export function parameterCases(dtype: FloatDType, sizes: CaseSizes): (NumericCase | TestCase)[] {
  const selfTest = layouts(sizes).flatMap((layout): NumericCase[] => {
    const { inFeatures, outFeatures, adapted } = layout;
    const rank = adapted.reduce((sum, each) => sum + each.rank, 0);
    const name = `${dtype} [${outFeatures}, ${inFeatures}]`;
    return [
      {
        name: `loraWeights ${name}`,
        // On a card it is made of plain ops, which nothing replaces; and so is its gradient.
        subject: { kind: 'op', name: 'loraWeights' },
        tolerance: SINGLE_OP[dtype],
        compute: (kernels) => {
          const parameters = seededTensor([layout.offset + parametersOf(layout) + 7], 61);
          return { ...kernels.of(dtype).loraWeights(parameters, layout, dtype) };
        },
      },
      {
        name: `loraGradient ${name}`,
        subject: { kind: 'op', name: 'loraGradient' },
        // Float32 of one product of each number.
        tolerance: SINGLE_OP.float32,
        compute: (kernels) => {
          const byA = seededTensor([rank, inFeatures], 62, dtype);
          const byScaledB = seededTensor([outFeatures, rank], 63, dtype);
          return byMatrix('gradient', kernels.of(dtype).loraGradient(byA, byScaledB, layout), layout);
        },
      },
      ...mergedWeightCases(dtype, layout),
      ...loraProductCases(dtype, layout, sizes),
      ...adaptedCases(dtype, layout, sizes),
    ];
  });
  return [...selfTest, ...TESTED_LAYOUTS.flatMap((tested) => layoutTests(dtype, tested))];
}

/** The gradient of a group's parameters, cut into that by A and those by the B of its layers: their sizes differ. */
function byMatrix(name: string, gradient: Tensor, { inFeatures, adapted }: LoraLayout): Record<string, Tensor> {
  const rank = adapted.reduce((sum, each) => sum + each.rank, 0);
  const sizes = [rank * inFeatures, ...adapted.map((each) => each.rank * each.outFeatures)];
  const names = [`${name} by A`, ...adapted.map((_, layer) => `${name} by B of layer ${layer + 1}`)];
  return Object.fromEntries(split(gradient, sizes, 0).map((part, index) => [names[index], part]));
}

/** Results that hold the numbers of the files, and of the model alone; with rows of no layer between. */
function mergedWeightCases(dtype: FloatDType, layout: LoraLayout): NumericCase[] {
  const { inFeatures, outFeatures, adapted } = layout;
  const dtypes: [FloatDType, readonly DType[]][] = [['float32', ['float16', 'bfloat16', 'float32']]];
  if (dtype === 'bfloat16') dtypes.push(['bfloat16', ['bfloat16']]);
  return dtypes.flatMap(([result, files]): NumericCase[] => {
    const merged = (kernels: KernelSet) => {
      const base = seededTensor([outFeatures, inFeatures], 81, dtype);
      const parameters = seededTensor([layout.offset + parametersOf(layout)], 82);
      const tokens = seededTensor([5, inFeatures], 83);
      const settings = { layout, stored: adapted.map((_, i) => files[i % files.length]!), dtype: result };
      return kernels.of(dtype).mergedWeight(base, parameters, tokens, settings);
    };
    const name = `mergedWeight ${dtype} [${outFeatures}, ${inFeatures}] in ${result}`;
    const subject = kernelSubject('mergedWeight', dtype);
    return [
      { name, subject, tolerance: EXACT, compute: (kernels) => ({ weight: merged(kernels).weight }) },
      {
        name: `${name}, its output and norms`,
        ...{ subject, tolerance: SUM.float32 },
        compute: (kernels) => {
          const { output, norms } = merged(kernels);
          return { output, norms };
        },
      },
    ];
  });
}

/** Two adapters, one with dropout, with rows of none before, between and after theirs. */
function loraProductCases(dtype: FloatDType, layout: LoraLayout, sizes: CaseSizes): NumericCase[] {
  const { inFeatures, outFeatures } = layout;
  const [small, large] = sizes === 'small' ? [5, 70] : [130, 1_100];
  const rows = [
    { first: 2, count: small },
    { first: small + 3, count: large },
  ];
  const tokens = small + large + 4;
  const partsOf = (kernels: KernelSet) =>
    rows.map((own, index): LoraPart => {
      const parameters = seededTensor([layout.offset + parametersOf(layout)], 71 + index);
      return {
        ...{ rows: own, parameters, layout },
        weights: () => kernels.of(dtype).loraWeights(parameters, layout, dtype),
        dropout: index === 0 ? null : { rate: 0.25, seed: [3, 4] },
      };
    });
  const base = () => seededTensor([tokens, outFeatures], 73, dtype);
  const name = `${dtype} of ${rows.length} adapters [${outFeatures}, ${inFeatures}]`;
  return [
    {
      name: `loraForward ${name}`,
      subject: kernelSubject('loraForward', dtype),
      tolerance: ADDED_PRODUCT[dtype],
      compute: (kernels) => {
        const x = seededTensor([tokens, inFeatures], 74, dtype);
        return { output: kernels.of(dtype).loraForward(base(), x, partsOf(kernels)).output };
      },
    },
    {
      name: `loraBackward ${name}`,
      subject: kernelSubject('loraBackward', dtype),
      tolerance: ADDED_PRODUCT[dtype],
      compute: (kernels) => {
        const { loraForward, loraBackward } = kernels.of(dtype);
        const parts = partsOf(kernels);
        const x = seededTensor([tokens, inFeatures], 74, dtype);
        const { low } = loraForward(base(), x, parts);
        const own = concat(
          rows.map((of) => rowsOf(x, of)),
          0,
        );
        const byFrozen = seededTensor([tokens, inFeatures], 75, dtype);
        const gradient = seededTensor([tokens, outFeatures], 76, dtype);
        const { byInput, byParameters } = loraBackward(gradient, own, low, byFrozen, parts);
        return {
          byInput: byInput!,
          ...byMatrix('first', byParameters[0]!, layout),
          ...byMatrix('second', byParameters[1]!, layout),
        };
      },
    },
  ];
}

/** One adapter on all rows of frozen layers whose weights have padding: of these layers, and of the last with input and output exchanged. */
function adaptedCases(dtype: FloatDType, layout: LoraLayout, sizes: CaseSizes): NumericCase[] {
  const { inFeatures, outFeatures } = layout;
  const tokens = sizes === 'small' ? 70 : 1_100;
  const narrowing = { ...layout, inFeatures: outFeatures, outFeatures: inFeatures };
  const whole = { ...narrowing, adapted: [{ ...layout.adapted[0]!, outFeatures: inFeatures, firstRow: 0 }] };
  return [layout, whole].flatMap((own): NumericCase[] => {
    const name = `${dtype} [${own.outFeatures}, ${own.inFeatures}]`;
    const parameters = () => seededTensor([own.offset + parametersOf(own)], 77);
    const partOf = (kernels: KernelSet, values: Tensor): LoraPart => ({
      ...{ rows: { first: 0, count: tokens }, parameters: values, layout: own, dropout: null },
      weights: () => kernels.of(dtype).loraWeights(values, own, dtype),
    });
    const weight = () => padWeight(seededTensor([own.outFeatures, own.inFeatures], 78, dtype));
    const x = () => seededTensor([tokens, own.inFeatures], 79, dtype);
    const gradient = () => seededTensor([tokens, own.outFeatures], 80, dtype);
    return [
      {
        name: `paddedProduct ${name}`,
        subject: kernelSubject('paddedProduct', dtype),
        tolerance: ADDED_PRODUCT[dtype],
        compute: (kernels) => {
          const { paddedProduct } = kernels.of(dtype);
          const frozen = weight();
          return { forward: paddedProduct(x(), frozen, true), backward: paddedProduct(gradient(), frozen, false) };
        },
      },
      {
        name: `adaptedForward ${name}`,
        subject: kernelSubject('adaptedForward', dtype),
        tolerance: ADDED_PRODUCT[dtype],
        compute: (kernels) => ({
          output: kernels.of(dtype).adaptedForward(x(), weight(), partOf(kernels, parameters())).output,
        }),
      },
      {
        name: `adaptedBackward ${name}`,
        subject: kernelSubject('adaptedBackward', dtype),
        tolerance: ADDED_PRODUCT[dtype],
        compute: (kernels) => {
          const { adaptedForward, adaptedBackward } = kernels.of(dtype);
          const [input, frozen, part] = [x(), weight(), partOf(kernels, parameters())];
          const { low } = adaptedForward(input, frozen, part);
          const { byInput, byParameters } = adaptedBackward(gradient(), input, low, frozen, part, true);
          return { byInput: byInput!, ...byMatrix('gradient', byParameters[0]!, own) };
        },
      },
    ];
  });
}

const TESTED_LAYOUTS: readonly { name: string; layout: LoraLayout }[] = [
  {
    name: 'all layers of a group, of different ranks',
    layout: {
      offset: 13,
      inFeatures: 37,
      outFeatures: 70,
      adapted: [
        { rank: 3, scale: 2, outFeatures: 32, firstRow: 0 },
        { rank: 5, scale: 0.3, outFeatures: 19, firstRow: 32 },
        { rank: 2, scale: 1 / 3, outFeatures: 19, firstRow: 51 },
      ],
    },
  },
  {
    name: 'some layers, with others before, between and after',
    layout: {
      offset: 0,
      inFeatures: 8,
      outFeatures: 50,
      adapted: [
        { rank: 4, scale: 0.5, outFeatures: 10, firstRow: 7 },
        { rank: 1, scale: 7, outFeatures: 3, firstRow: 40 },
      ],
    },
  },
  {
    name: 'one wide layer',
    layout: {
      offset: 1,
      inFeatures: 2100,
      outFeatures: 1100,
      adapted: [{ rank: 64, scale: 0.25, outFeatures: 1100, firstRow: 0 }],
    },
  },
];

/** The matrices of LoRA and their gradient, and merged weights. */
function layoutTests(dtype: FloatDType, { name, layout }: (typeof TESTED_LAYOUTS)[number]): TestCase[] {
  const { inFeatures, outFeatures, adapted } = layout;
  const parameters = () => spreadTensor([layout.offset + parametersOf(layout) + 5], 84, 1);
  const matrices = testCase(`loraWeights and loraGradient ${dtype}, ${name}`, EXACT, (kernels) => {
    const { loraWeights, loraGradient } = kernels.of(dtype);
    const { a, scaledB } = loraWeights(parameters(), layout, dtype);
    const [byA, byScaledB] = [spreadTensor(a.shape, 85, 1, dtype), spreadTensor(scaledB.shape, 86, 1, dtype)];
    return { a, scaledB, gradient: loraGradient(byA, byScaledB, layout) };
  });
  const files: [FloatDType, readonly DType[]][] = [
    ['float32', ['float16', 'bfloat16', 'float32']],
    [dtype, ['bfloat16']],
  ];
  const merges = files.flatMap(([result, stored]) => {
    const merged = (kernels: KernelSet) => {
      const base = spreadTensor([outFeatures, inFeatures], 87, 0.3, dtype);
      const settings = { layout, stored: adapted.map((_, i) => stored[i % stored.length]!), dtype: result };
      return kernels.of(dtype).mergedWeight(base, parameters(), spreadTensor([5, inFeatures], 88, 1), settings);
    };
    const title = `mergedWeight ${dtype} of ${stored.join(', ')} in ${result}, ${name}`;
    return [
      testCase(title, EXACT, (kernels) => ({ weight: merged(kernels).weight })),
      testCase(`${title}: its output and norms`, { kind: 'largest', relative: 1e-5 }, (kernels) => {
        const { output, norms } = merged(kernels);
        return { output, norms };
      }),
    ];
  });
  return [matrices, ...merges];
}
