import { boolAttribute, execute, typeAttribute } from '../../../packages/tensor/dist/execute.js';
import * as t from '../../../packages/tensor/dist/index.js';
import { chooseKernels } from '../../../packages/tensor/dist/kernels/kernel-table.js';
import {
  positiveTensor,
  seededBytes,
  seededIndices,
  seededTensor,
} from '../../../packages/tensor/dist/numeric-cases/numeric-case.js';
import { seededPacked } from '../../../packages/tensor/dist/numeric-cases/quantized-cases.js';
import { byTokens } from '../kernel-growth.mjs';
import {
  attentionCases,
  cacheCases,
  linearAttentionCases,
  shortRowsCase,
  textsCase,
} from './attention-growth-cases.mjs';

const kernels = chooseKernels('fused');

// Every kernel of the CUDA engine, in an input whose size is doubled. A new kernel: call its op in a case of its subject, or add a case.
// `npm run test:growth -- PARTS…` runs the cases whose names have one of the parts.

/** @typedef {import('../kernel-growth.mjs').GrowthCase} GrowthCase */
/** @typedef {import('../../../packages/tensor/dist/index.js').FloatDType} FloatDType */
/** @typedef {import('../../../packages/tensor/dist/index.js').Tensor} Tensor */

/** @type {readonly FloatDType[]} */
const FLOATS = ['float32', 'bfloat16'];
/** @type {readonly import('../../../packages/tensor/dist/index.js').DType[]} */
const TYPES = ['float32', 'bfloat16', 'float16', 'int32', 'int64', 'uint8', 'bool'];
const EPSILON = 1e-5;

/** Kernels that have no size that grows, or none that a test can reach, and why. @type {Record<string, string>} */
export const WITHOUT_SIZE = {
  SumOfBlocksFloat32: 'adds at most 1,024 sums, however many parameters there are',
  MergedNormsFloat32: 'one block adds three numbers for each 1,024 of a weight: its rounds would need millions of rows',
};

/** @returns {GrowthCase[]} */
export function growthCases() {
  return [
    ...castCases(),
    ...FLOATS.flatMap((dtype) => [
      ...elementCases(dtype),
      ...reductionCases(dtype),
      ...rowCases(dtype),
      ...t.HEAD_SIZES.flatMap((headDim) => [...attentionCases(dtype, headDim), ...cacheCases(dtype, headDim)]),
      ...[shortRowsCase(dtype), textsCase(dtype)],
      ...productCases(dtype),
      ...packedCases(dtype),
      ...adapterCases(dtype),
      ...linearAttentionCases(dtype),
      ...[mergedWeightCase(dtype), ...sampleCases(dtype)],
    ]),
    ...layoutCases(),
    ...parameterCases(),
  ];
}

/** @returns {GrowthCase[]} */
function castCases() {
  return TYPES.map((from) =>
    byTokens(`casts from ${from}`, 512, (tokens) => {
      const x = t.cast(seededTensor([tokens, 16], 1), from);
      for (const to of TYPES) {
        const types = [typeAttribute('SrcT', from), typeAttribute('DstT', to), boolAttribute('Truncate', false)];
        execute('Cast', types, [x]);
      }
    }),
  );
}

/** @param {FloatDType} dtype @returns {GrowthCase[]} */
function elementCases(dtype) {
  const pairs = [...[t.add, t.subtract, t.multiply, t.divide, t.maximum, t.minimum, t.greater, t.greaterEqual]];
  const singles = [
    ...[t.square, t.squareRoot, t.reciprocalSquareRoot, t.exponential, t.sigmoid, t.tanh, t.relu, t.erf],
  ];
  return [
    byTokens(`element by element, ${dtype}`, 512, (tokens) => {
      const [x, y] = [positiveTensor([tokens, 16], 1, dtype), positiveTensor([tokens, 16], 2, dtype)];
      for (const op of pairs) op(x, y);
      for (const op of singles) op(x);
      t.add(x, positiveTensor([16], 3, dtype));
      t.add(x, positiveTensor([tokens, 1], 4, dtype));
      kernels.of(dtype).activation(x, 'silu');
      kernels.of(dtype).activationGradient(y, x, 'silu');
      kernels.of(dtype).dropout(x, 0.5, [1, 2]);
      t.randomUniform([tokens, 16], [1, 2]);
    }),
  ];
}

/** Sums of long rows and columns are made in pieces, in float32. @param {FloatDType} dtype @returns {GrowthCase[]} */
function reductionCases(dtype) {
  return [
    byTokens(`reductions, ${dtype}`, 512, (tokens) => {
      const x = seededTensor([tokens, 128], 1, dtype);
      const [wide, deep] = [seededTensor([tokens, 4128], 2, dtype), seededTensor([tokens, 72, 4], 3, dtype)];
      for (const op of [t.sum, t.max]) {
        for (const axis of /** @type {const} */ ([-1, 0, 'all'])) op(x, axis);
        op(wide, -1);
        op(deep, 1);
        op(seededTensor([tokens, 8, 4], 3, dtype), 1);
      }
      t.argMax(x);
      t.softmax(x);
    }),
    {
      ...{ name: `rows of all tokens, ${dtype}`, doubled: 'vocabulary', size: 1 << 15 },
      run: (vocabulary) => {
        const logits = seededTensor([4, vocabulary], 1, dtype);
        t.argMax(logits);
        t.softmax(logits);
        t.max(logits, -1);
        kernels.of(dtype).crossEntropy(logits, seededIndices(4, vocabulary, 2));
      },
    },
  ];
}

/** Kernels with a block for a row. @param {FloatDType} dtype @returns {GrowthCase[]} */
function rowCases(dtype) {
  return [
    byTokens(`norms, units and cross entropy, ${dtype}`, 512, (tokens) => {
      const [x, weight] = [seededTensor([tokens, 64], 1), seededTensor([64], 2)];
      const branch = seededTensor([tokens, 64], 3, dtype);
      const { inverseRms } = kernels.of(dtype).rmsNorm(x, weight, EPSILON, dtype);
      kernels.of(dtype).addRmsNorm(x, branch, weight, EPSILON);
      kernels.of(dtype).rmsNormGradient(branch, x, weight, inverseRms, x);
      kernels.of(dtype).centred(x);
      const [gateUp, gradient] = [seededTensor([tokens, 64], 4, dtype), seededTensor([tokens, 32], 5, dtype)];
      kernels.of(dtype).gatedUnit(gateUp, 'silu');
      kernels.of(dtype).gatedUnitGradient(gradient, gateUp, 'silu');
      kernels.of(dtype).clampedUnit(gateUp, 1);
      kernels.of(dtype).clampedUnitGradient(gradient, gateUp, 1);
      kernels.of(dtype).crossEntropy(seededTensor([tokens / 4, 96], 6, dtype), seededIndices(tokens / 4, 96, 7));
    }),
    // Half of the rows have no update, one in four has two.
    byTokens(`rows by their indices, ${dtype}`, 512, (tokens) => {
      const x = seededTensor([tokens, 16], 1, dtype);
      const indices = Int32Array.from(
        { length: tokens },
        (_, i) => Math.floor(i / 3) + (i % 3) * Math.floor(tokens / 4),
      );
      t.gather(
        x,
        t.tensorOf(
          indices.map((index) => index % tokens),
          [tokens],
        ),
      );
      t.scatter(t.tensorOf(indices, [tokens]), x, tokens);
      kernels.of(dtype).gatheredSum(
        x,
        t.tensorOf(
          Int32Array.from({ length: 2 * tokens }, (_, i) => i >> 1),
          [2 * tokens],
        ),
        2,
      );
    }),
    byTokens(`rows to a single one, ${dtype}`, 512, (tokens) => {
      t.scatter(t.fill([tokens], 0, 'int32'), seededTensor([tokens, 16], 1, dtype), 8);
    }),
  ];
}

/** @param {number} rows @param {number} groups */
function sectionsOf(rows, groups) {
  return t.rowSections(Int32Array.from({ length: groups + 1 }, (_, group) => (rows / groups) * group));
}

/** @param {FloatDType} dtype @returns {GrowthCase[]} */
function productCases(dtype) {
  /** @param {number} tokens @param {number} groups */
  const grouped = (tokens, groups) => {
    const { groupedProduct } = kernels.of(dtype);
    const weights = seededTensor([groups, 64, 64], 1, dtype);
    const x = seededTensor([tokens, 64], 2, dtype);
    for (const transposed of [true, false]) groupedProduct(x, weights, sectionsOf(tokens, groups), transposed);
  };
  return [
    byTokens(`products of groups, ${dtype}`, 512, (tokens) => grouped(tokens, 2)),
    {
      name: `products of many groups, ${dtype}`,
      doubled: 'groups',
      size: 64,
      run: (groups) => grouped(groups, groups),
    },
  ];
}

/** @typedef {import('../../../packages/tensor/dist/numeric-cases/quantized-cases.js').QuantizedShape['form']} Form */
/** @type {readonly Form[]} */
const FORMS = ['4 bits, double quantization', '8 bits'];

/** Weights grow with the model, so their rows are doubled. @param {FloatDType} dtype @returns {GrowthCase[]} */
function packedCases(dtype) {
  return [
    ...FORMS.flatMap((form) => [
      {
        ...{ name: `packed weights, ${form}, ${dtype}`, doubled: 'rows of weights', size: 512 },
        /** @param {number} rows */
        run: (rows) => {
          const weights = seededPacked({ columns: 128, rows: [rows], form });
          const { dequantizeRows, quantizedProduct } = kernels.of(dtype);
          dequantizeRows(weights, 0, rows, dtype);
          // Few rows have kernels of their own.
          for (const tokens of [4, 12, 40]) quantizedProduct(seededTensor([tokens, 128], 1, dtype), weights, true);
          weights.dispose();
        },
      },
      {
        ...{ name: `packed weights and few rows, ${form}, ${dtype}`, doubled: 'columns of weights', size: 512 },
        /** @param {number} columns */
        run: (columns) => {
          const weights = seededPacked({ columns, rows: [64], form });
          for (const tokens of [4, 12])
            kernels.of(dtype).quantizedProduct(seededTensor([tokens, columns], 1, dtype), weights, true);
          weights.dispose();
        },
      },
      {
        ...{ name: `many packed experts, ${form}, ${dtype}`, doubled: 'experts', size: 8 },
        /** @param {number} experts */
        run: (experts) => {
          const weights = seededPacked({ columns: 64, rows: Array(experts).fill(64), form });
          const { groupedPackedProduct } = kernels.of(dtype);
          groupedPackedProduct(seededTensor([experts, 64], 1, dtype), weights, sectionsOf(experts, experts), true);
          weights.dispose();
        },
      },
      byTokens(`packed experts, ${form}, ${dtype}`, 256, (tokens) => {
        const weights = seededPacked({ columns: 64, rows: [64, 64], form });
        const { groupedPackedProduct } = kernels.of(dtype);
        groupedPackedProduct(seededTensor([tokens, 64], 1, dtype), weights, sectionsOf(tokens, 2), true);
        weights.dispose();
      }),
    ]),
    {
      ...{ name: `packed weights, MXFP4, ${dtype}`, doubled: 'rows of weights', size: 512 },
      run: (rows) => {
        const weights = new t.Mxfp4Matrices([1, rows, 64], seededBytes(rows * 32, 1), seededBytes(rows * 2, 2));
        kernels.of(dtype).dequantizeRows(weights, 0, rows, dtype);
        weights.dispose();
      },
    },
    {
      ...{ name: `many packed experts, MXFP4, ${dtype}`, doubled: 'experts', size: 8 },
      run: (experts) => {
        const [codes, scales] = [seededBytes(experts * 64 * 32, 1), seededBytes(experts * 64 * 2, 2)];
        const weights = new t.Mxfp4Matrices([experts, 64, 64], codes, scales);
        const { groupedPackedProduct } = kernels.of(dtype);
        groupedPackedProduct(seededTensor([experts, 64], 3, dtype), weights, sectionsOf(experts, experts), true);
        weights.dispose();
      },
    },
  ];
}

/** Two adapted layers of a group. */
const LAYOUT = {
  ...{ offset: 0, inFeatures: 64, outFeatures: 96 },
  adapted: [
    { rank: 8, scale: 2, outFeatures: 64, firstRow: 0 },
    { rank: 8, scale: 2, outFeatures: 32, firstRow: 64 },
  ],
};

/**
 * Adapters on equal parts of the rows.
 *
 * @param {FloatDType} dtype
 * @param {number} tokens
 * @param {number} adapters
 * @param {import('../../../packages/tensor/dist/index.js').LoraLayout} [layout]
 */
function adapt(dtype, tokens, adapters, layout = LAYOUT) {
  const { loraForward, loraBackward, loraWeights, loraGradient } = kernels.of(dtype);
  const count = tokens / adapters;
  const parts = Array.from({ length: adapters }, (_, index) => {
    const parameters = seededTensor([t.parametersOf(layout)], index);
    const weights = () => loraWeights(parameters, layout, dtype);
    return { rows: { first: index * count, count }, parameters, layout, weights, dropout: null };
  });
  const x = seededTensor([tokens, layout.inFeatures], 1, dtype);
  const base = seededTensor([tokens, layout.outFeatures], 2, dtype);
  const { low } = loraForward(base, x, parts);
  const gradient = seededTensor([tokens, layout.outFeatures], 3, dtype);
  loraBackward(gradient, x, low, seededTensor([tokens, layout.inFeatures], 4, dtype), parts);
  loraGradient(
    seededTensor([16, layout.inFeatures], 5, dtype),
    seededTensor([layout.outFeatures, 16], 6, dtype),
    layout,
  );
}

/** @param {FloatDType} dtype @returns {GrowthCase[]} */
function adapterCases(dtype) {
  return [
    byTokens(`LoRA, ${dtype}`, 512, (tokens) => adapt(dtype, tokens, 1)),
    {
      name: `LoRA of many adapters, ${dtype}`,
      doubled: 'adapters',
      size: 24,
      run: (count) => adapt(dtype, 16 * count, count),
    },
    {
      ...{ name: `LoRA of wide layers, ${dtype}`, doubled: 'features', size: 512 },
      run: (features) => {
        const adapted = [{ rank: 8, scale: 2, outFeatures: features, firstRow: 0 }];
        adapt(dtype, 32, 1, { offset: 0, inFeatures: features, outFeatures: features, adapted });
      },
    },
    byTokens(`LoRA as a part of frozen products, ${dtype}`, 512, (tokens) => {
      const { adaptedForward, adaptedBackward, loraWeights, paddedProduct } = kernels.of(dtype);
      for (const [inFeatures, outFeatures] of /** @type {const} */ ([
        [64, 96],
        [96, 64],
      ])) {
        const adapted = [{ rank: 8, scale: 2, outFeatures, firstRow: 0 }];
        const layout = { offset: 0, inFeatures, outFeatures, adapted };
        const parameters = seededTensor([t.parametersOf(layout)], 1);
        const weights = () => loraWeights(parameters, layout, dtype);
        const part = { rows: { first: 0, count: tokens }, parameters, layout, weights, dropout: null };
        const frozen = t.padWeight(seededTensor([outFeatures, inFeatures], 2, dtype));
        const x = seededTensor([tokens, inFeatures], 3, dtype);
        const { low } = adaptedForward(x, frozen, part);
        adaptedBackward(seededTensor([tokens, outFeatures], 4, dtype), x, low, frozen, part, true);
        paddedProduct(x, frozen, true);
      }
    }),
  ];
}

/** @param {FloatDType} dtype @returns {GrowthCase} */
function mergedWeightCase(dtype) {
  return {
    name: `merged weights, ${dtype}`,
    doubled: 'rows of weights',
    size: 512,
    run: (rows) => {
      const adapted = [{ rank: 8, scale: 2, outFeatures: rows, firstRow: 0 }];
      const layout = { offset: 0, inFeatures: 64, outFeatures: rows, adapted };
      const [base, parameters] = [seededTensor([rows, 64], 1, dtype), seededTensor([t.parametersOf(layout)], 2)];
      for (const result of new Set(/** @type {const} */ ([dtype, 'float32']))) {
        const settings = { layout, stored: [dtype], dtype: result };
        kernels.of(dtype).mergedWeight(base, parameters, seededTensor([5, 64], 3), settings);
      }
    },
  };
}

/** @param {FloatDType} dtype @returns {GrowthCase[]} */
function sampleCases(dtype) {
  /** @param {number} texts @param {number} vocabulary */
  const sample = (texts, vocabulary) => {
    const choice = {
      ...{ given: null, temperature: 1, topK: 30, topP: 0.9, minP: 0.01, draw: 0.7 },
      ...{ penalties: null, allowed: null, logprobs: 2 },
    };
    kernels.of(dtype).sampleTokens(seededTensor([texts, vocabulary], 1, dtype), Array(texts).fill(choice));
  };
  return [
    {
      name: `tokens of a large vocabulary, ${dtype}`,
      doubled: 'vocabulary',
      size: 1 << 14,
      run: (vocabulary) => sample(2, vocabulary),
    },
    { name: `tokens of many texts, ${dtype}`, doubled: 'texts', size: 16, run: (texts) => sample(texts, 512) },
  ];
}

/** Elements of each size, and boxes of them that no larger element fits. @returns {GrowthCase[]} */
function layoutCases() {
  return /** @type {const} */ (['uint8', 'bfloat16', 'float32', 'int64']).map((dtype) =>
    byTokens(`copies, ${dtype}`, 512, (tokens) => {
      const x = t.cast(seededTensor([tokens, 36], 1), dtype);
      t.transpose(x, [1, 0]);
      const narrow = t.slice(x, [0, 1], [tokens, 17]);
      t.slice(x, [0, 0], [tokens, 16]);
      t.concat([x, x], 1);
      for (const rows of [x, narrow]) t.gather(rows, seededIndices(tokens, tokens, 2));
      t.fill([tokens, 36], 1, dtype);
    }),
  );
}

/** The optimizer, whose sizes are an adapter's. @returns {GrowthCase[]} */
function parameterCases() {
  const rates = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, learningRate: 1e-3, weightDecay: 0.01 };
  const step = { gradientScale: 1, maxNorm: 1, step: 1, ...rates };
  return [
    {
      ...{ name: 'AdamW', doubled: 'parameters', size: 1 << 15 },
      run: (count) => {
        const { adamW, squareSum } = kernels.of('float32');
        const [parameters, gradient] = [seededTensor([count], 1), seededTensor([count], 2)];
        const norm = squareSum(gradient, 1);
        const moments = { first: seededTensor([count], 3), second: positiveTensor([count], 4) };
        adamW({ parameters, ...moments, rateFactors: null }, gradient, norm, step);
        const small = { first: t.zeroMoment(count), second: t.zeroMoment(count) };
        adamW({ parameters, ...small, rateFactors: null }, gradient, norm, step);
      },
    },
  ];
}
