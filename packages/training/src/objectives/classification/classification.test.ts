import type { Activation, ClassifierArchitecture } from '@lorasmith/model-folder';
import { Classifier, DenseLinear, type FeatureBatch, type LinearGroup } from '@lorasmith/models';
import {
  cast,
  chooseKernels,
  type FloatDType,
  keep,
  liveTensorCount,
  scope,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { centralDifferences, FINITE_DIFFERENCE_TOLERANCE } from '../../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../../test/numeric/normal-numbers.js';
import { adapterOf, BiasAdapter } from '../../../../models/test/bias-adapter.js';
import { takeBatchLoss } from '../objective.js';
import { Classification } from './classification.js';

const kernels = chooseKernels('raw');

const LAYERS = [
  { name: '0', inFeatures: 4, outFeatures: 6, bias: true },
  { name: '2', inFeatures: 6, outFeatures: 5, bias: false },
  { name: '4', inFeatures: 5, outFeatures: 3, bias: true },
];
const BATCH: FeatureBatch = { features: normalNumbers(7 * 4, 1), width: 4, labels: Int32Array.of(0, 2, 1, 1, 0, 2, 2) };

function tinyClassifier(activation: Activation, dtype: FloatDType = 'float32'): Classifier {
  const architecture: ClassifierArchitecture = { kind: 'classifier', family: 'classifier', layers: LAYERS, activation };
  const random = (shape: number[], seed: number) => {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    return keep(scope(() => cast(tensorOf(normalNumbers(size, seed), shape), dtype)));
  };
  const groups = LAYERS.map(({ name, inFeatures, outFeatures, bias }, index) => {
    const own = bias ? random([outFeatures], 20 + index) : null;
    const linear = new DenseLinear(kernels, random([outFeatures, inFeatures], 10 + index), own);
    return { modules: [{ name, outFeatures }], linear };
  });
  return new Classifier(architecture, dtype, groups);
}

/** A trained bias at a group, freed by the caller. */
function withBias(group: LinearGroup) {
  const bias = new BiasAdapter(group);
  return { bias, options: { adapters: [{ adapter: adapterOf([[group, bias]]) }] } };
}

describe.each(['relu', 'gelu', 'silu', 'tanh', 'sigmoid'] as const)('with %s', (activation) => {
  test.each([0, 1, 2])('gradient by a bias of layer %i against finite differences', (index) => {
    const model = tinyClassifier(activation);
    const objective = new Classification(model);
    const group = model.groups[index]!;
    const { bias, options } = withBias(group);
    const width = group.linear.outFeatures;
    const numeric = centralDifferences((values) => {
      bias.setBias(values);
      return objective.loss(BATCH, options).lossSum;
    }, new Float32Array(width));
    bias.setBias(new Float32Array(width));
    takeBatchLoss(objective.lossAndGradients(BATCH, options));
    expect(differenceByLargest(bias.takeGradient(), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    bias.dispose();
    model.dispose();
  });
});

test('counts the rows whose label is ranked first', () => {
  const model = tinyClassifier('tanh');
  const logits = scope(() => toFloat32Array(model.logits(BATCH)));
  const ranked = Int32Array.from({ length: 7 }, (_, row) => {
    const own = logits.subarray(3 * row, 3 * row + 3);
    return own.indexOf(Math.max(...own));
  });
  const objective = new Classification(model);
  const options = { adapters: [] };
  expect(objective.loss({ ...BATCH, labels: ranked }, options)).toMatchObject({ normaliser: 7, correct: 7 });
  const oneWrong = ranked.map((label, row) => (row === 3 ? (label + 1) % 3 : label));
  expect(objective.loss({ ...BATCH, labels: oneWrong }, options).correct).toBe(6);
  model.dispose();
});

test('the losses of rows are -log softmax at their labels, and sum up to the loss', () => {
  const model = tinyClassifier('tanh');
  const objective = new Classification(model);
  const options = { adapters: [] };
  const logits = scope(() => toFloat32Array(model.logits(BATCH)));
  const expected = [...BATCH.labels].map((label, row) => {
    const own = logits.subarray(3 * row, 3 * row + 3);
    return Math.log(own.reduce((sum, logit) => sum + Math.exp(logit), 0)) - own[label]!;
  });
  const losses = objective.rowLosses(BATCH, options);
  expect(differenceByLargest(losses, expected)).toBeLessThan(1e-5);
  const sum = losses.reduce((total, loss) => total + loss, 0);
  expect(Math.abs(sum - objective.loss(BATCH, options).lossSum)).toBeLessThan(1e-5);
  model.dispose();
});

test('joined batches give the losses of each, in their order', () => {
  const model = tinyClassifier('tanh');
  const objective = new Classification(model);
  const other = { features: normalNumbers(2 * 4, 2), width: 4, labels: Int32Array.of(1, 0) };
  const { batch, tokens, labels } = objective.join([BATCH, other]);
  expect(tokens).toEqual([
    { first: 0, count: 7 },
    { first: 7, count: 2 },
  ]);
  expect(labels).toEqual(tokens);
  const own = [BATCH, other].flatMap((one) => [...objective.rowLosses(one, { adapters: [] })]);
  expect([...objective.rowLosses(batch, { adapters: [] })]).toEqual(own);
  model.dispose();
});

test('handles are flat over passes', () => {
  const model = tinyClassifier('gelu', 'bfloat16');
  const objective = new Classification(model);
  const { bias, options } = withBias(model.groups[0]!);
  takeBatchLoss(objective.lossAndGradients(BATCH, options)); // makes the constants it needs
  const before = liveTensorCount();
  takeBatchLoss(objective.lossAndGradients(BATCH, options));
  objective.loss(BATCH, options);
  expect(liveTensorCount()).toBe(before);
  bias.dispose();
  model.dispose();
});

test('disposing frees every weight', () => {
  const before = liveTensorCount();
  const model = tinyClassifier('gelu', 'bfloat16');
  expect(liveTensorCount()).toBe(before + 5);
  model.dispose();
  expect(liveTensorCount()).toBe(before);
});
