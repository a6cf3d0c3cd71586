import { type Decoder, type GroupAdapter, type LinearGroup, tokenBatchOf } from '@lorasmith/models';
import { chooseKernels, liveTensorCount, scope, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { centralDifferences, FINITE_DIFFERENCE_TOLERANCE } from '../../../../../test/numeric/central-differences.js';
import { differenceByLargest } from '../../../../../test/numeric/greatest-difference.js';
import { adapterOf, BiasAdapter } from '../../../../models/test/bias-adapter.js';
import { TINY_ARCHITECTURE, tinyDecoder } from '../../../../models/test/tiny-decoder.js';
import { takeBatchLoss } from '../objective.js';
import { NextToken } from './next-token.js';

const kernels = chooseKernels('raw');

/** Tokens 0, 7, 14, … of the vocabulary, from another one for each row; the first `prompt` are not trained. */
function rowOf(length: number, prompt: number, first: number) {
  return {
    ids: Int32Array.from({ length }, (_, i) => (first + 7 * i) % TINY_ARCHITECTURE.vocabSize),
    trained: Uint8Array.from({ length }, (_, i) => Number(i >= prompt)),
  };
}

const ROWS = [rowOf(9, 3, 1), rowOf(40, 20, 2), rowOf(4, 1, 3), rowOf(35, 30, 4)];

let decoder: Decoder;
let objective: NextToken;
beforeEach(() => {
  decoder = tinyDecoder(kernels);
  objective = new NextToken(decoder);
});
afterEach(() => decoder.dispose());

const BASE_ALONE = { adapters: [] };

/** Numbers of all weights, and the handles of those that can be seen. */
function weightsOf({ weights: { embedding, head, finalNorm, layers }, groups }: Decoder) {
  const norms = layers.flatMap(({ blocks }) => blocks.map(({ norm }) => norm!.weight));
  return {
    seen: [embedding, head, finalNorm.weight, ...norms].map((weight) => ({
      id: weight.id,
      values: toFloat32Array(weight),
    })),
    linears: groups.map(({ linear }) => scope(() => toFloat32Array(linear.weightRows(0, linear.outFeatures)))),
  };
}

/** A trained bias at each of these groups, freed by the caller; with them other adapters, of other groups. */
function withBiases(groups: readonly LinearGroup[], others: readonly (readonly [LinearGroup, GroupAdapter])[] = []) {
  const biases = groups.map((group) => new BiasAdapter(group));
  const adapter = adapterOf([...others, ...groups.map((group, i) => [group, biases[i]!] as const)]);
  return { biases, bias: biases[0]!, options: { adapters: [{ adapter }] } };
}

describe('gradient of the whole model against finite differences', () => {
  const names = ['q, k, v', 'o', 'gate, up', 'down'];
  const places = [0, 1].flatMap((layer) => names.map((name, index) => ({ layer, name, index: 4 * layer + index })));

  const head = { layer: 'none', name: 'the output head', index: 8 };

  test.each([...places, head])('the gradient by a bias at $name of layer $layer', ({ index }) => {
    const { bias, options } = withBiases([decoder.groups[index]!]);
    const batch = tokenBatchOf(ROWS.map(({ ids, trained }) => ({ ids: ids.subarray(0, 9), trained })));
    const width = decoder.groups[index]!.linear.outFeatures;
    const numeric = centralDifferences((values) => {
      bias.setBias(values);
      return objective.loss(batch, options).lossSum;
    }, new Float32Array(width));
    bias.setBias(new Float32Array(width));
    takeBatchLoss(objective.lossAndGradients(batch, options));
    expect(differenceByLargest(bias.takeGradient(), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    bias.dispose();
  });
});

describe('a batch', () => {
  test('is the same as its rows, one at a time: loss and gradients of every place', () => {
    const { biases, options } = withBiases(decoder.groups);
    const whole = objective.lossAndGradients(tokenBatchOf(ROWS), options);
    const { lossSum: wholeSum } = takeBatchLoss(whole);
    const gradients = biases.map((bias) => bias.takeGradient());
    let lossSum = 0;
    let labels = 0;
    for (const row of ROWS) {
      const result = objective.lossAndGradients(tokenBatchOf([row]), options);
      lossSum += takeBatchLoss(result).lossSum;
      labels += result.normaliser;
    }
    expect(labels).toBe(whole.normaliser);
    expect(Math.abs(lossSum / labels - wholeSum / labels)).toBeLessThan(1e-5);
    for (const [i, bias] of biases.entries()) {
      expect(differenceByLargest(bias.takeGradient(), gradients[i]!)).toBeLessThan(1e-5);
      bias.dispose();
    }
  });

  test('has the loss that its logits say, with and without a backward pass', () => {
    const options = BASE_ALONE;
    const batch = tokenBatchOf(ROWS);
    const logits = scope(() => toFloat32Array(decoder.logits(batch)));
    let expected = 0;
    for (const [i, index] of batch.predictors.entries()) {
      const own = logits.subarray(index * TINY_ARCHITECTURE.vocabSize, (index + 1) * TINY_ARCHITECTURE.vocabSize);
      expected += Math.log(own.reduce((sum, logit) => sum + Math.exp(logit), 0)) - own[batch.labels[i]!]!;
    }
    const { lossSum, normaliser: labels } = objective.loss(batch, options);
    expect(labels).toBe(6 + 20 + 3 + 5);
    expect(Math.abs(lossSum - expected) / labels).toBeLessThan(1e-5);
    expect(Math.abs(takeBatchLoss(objective.lossAndGradients(batch, options)).lossSum - lossSum) / labels).toBeLessThan(
      1e-6,
    );
  });
});

/** Notes what is asked of a frozen group. */
class Watched implements GroupAdapter {
  readonly trained = false;
  readonly calls: string[] = [];

  forward(x: Tensor, base: () => Tensor, { record }: { record: boolean }) {
    this.calls.push(record ? 'forward, saving' : 'forward');
    const output = base();
    x.dispose();
    return { output, saved: null };
  }

  backward(_gradient: Tensor, base: () => Tensor, _saved: null, wantInputGradient: boolean) {
    this.calls.push(wantInputGradient ? 'backward' : 'backward to nothing');
    return wantInputGradient ? base() : null;
  }
}

describe('frozen weights', () => {
  test('are the same tensors with the same numbers after training passes, and hold no gradient', () => {
    const { biases, options } = withBiases(decoder.groups);
    const batch = tokenBatchOf(ROWS);
    takeBatchLoss(objective.lossAndGradients(batch, options)); // makes the constants it needs
    const before = weightsOf(decoder);
    const handles = liveTensorCount();
    takeBatchLoss(objective.lossAndGradients(batch, options));
    objective.loss(batch, options);
    expect(liveTensorCount()).toBe(handles);
    expect(weightsOf(decoder)).toEqual(before);
    for (const bias of biases) bias.dispose();
  });

  test('below the lowest adapted layer: nothing is saved and no gradient comes there', () => {
    const lower = decoder.groups.slice(0, 4).map((group) => [group, new Watched()] as const);
    const upper = new Watched();
    const others = [...lower, [decoder.groups[7]!, upper] as const];
    const { bias, options } = withBiases([decoder.groups[4]!], others);
    takeBatchLoss(objective.lossAndGradients(tokenBatchOf(ROWS), options));
    for (const [, { calls }] of lower) expect(calls).toEqual(['forward']);
    expect(upper.calls).toEqual(['forward, saving', 'backward']);
    expect(bias.takeGradient().some((value) => value !== 0)).toBe(true);
    bias.dispose();
  });

  test('below the output head, where it alone is adapted: nothing is saved and no gradient comes there', () => {
    const below = decoder.groups.slice(0, 8).map((group) => [group, new Watched()] as const);
    const { bias, options } = withBiases([decoder.head.group], below);
    takeBatchLoss(objective.lossAndGradients(tokenBatchOf(ROWS), options));
    for (const [, { calls }] of below) expect(calls).toEqual(['forward']);
    expect(bias.takeGradient().some((value) => value !== 0)).toBe(true);
    bias.dispose();
  });

  test('below the adapted place within its layer: no gradient continues', () => {
    const below = [4, 5, 6].map((index) => [decoder.groups[index]!, new Watched()] as const);
    const { bias, options } = withBiases([decoder.groups[7]!], below);
    takeBatchLoss(objective.lossAndGradients(tokenBatchOf(ROWS), options));
    for (const [, { calls }] of below) expect(calls).toEqual(['forward, saving']);
    expect(bias.takeGradient().some((value) => value !== 0)).toBe(true);
    bias.dispose();
  });

  test('with nothing adapted at all a backward pass only gives the loss', () => {
    const options = BASE_ALONE;
    const batch = tokenBatchOf(ROWS);
    const { lossSum } = objective.loss(batch, options);
    const handles = liveTensorCount();
    expect(takeBatchLoss(objective.lossAndGradients(batch, options)).lossSum).toBeCloseTo(lossSum, 4);
    expect(liveTensorCount()).toBe(handles);
  });
});
