import { liveTensorCount, scope, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { centralDifferences, FINITE_DIFFERENCE_TOLERANCE } from '../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../test/numeric/greatest-difference.js';
import { BiasProjection } from '../../test/bias-projection.js';
import { TINY_ARCHITECTURE, tinyDecoder } from '../../test/tiny-decoder.js';
import type { FrozenProjection, Projection, ProjectionSlot } from '../projection.js';
import { tokenBatchOf } from '../token-batch.js';
import type { Decoder } from './decoder.js';

/** Tokens 0, 7, 14, … of the vocabulary, from another one for each row; the first `prompt` are not trained. */
function rowOf(length: number, prompt: number, first: number) {
  return {
    ids: Int32Array.from({ length }, (_, i) => (first + 7 * i) % TINY_ARCHITECTURE.vocabSize),
    trained: Uint8Array.from({ length }, (_, i) => Number(i >= prompt)),
  };
}

const ROWS = [rowOf(9, 3, 1), rowOf(40, 20, 2), rowOf(4, 1, 3), rowOf(35, 30, 4)];

let decoder: Decoder;
beforeEach(() => {
  decoder = tinyDecoder();
});
afterEach(() => decoder.dispose());

function weightsOf(model: Decoder): Tensor[] {
  const { embedding, head, finalNorm, layers } = model.weights;
  return [
    embedding,
    head,
    finalNorm.weight,
    ...layers.flatMap(({ weights, slots }) => {
      return [weights.attentionNorm.weight, weights.mlpNorm.weight, ...slots.map((slot) => slot.frozen.weight)];
    }),
  ];
}

/** A trained bias at each of these places, freed by the caller. */
function withBiases(slots: readonly ProjectionSlot[]): BiasProjection[] {
  return slots.map((slot) => {
    const projection = new BiasProjection(slot.frozen);
    slot.projection = projection;
    return projection;
  });
}

describe('gradient of the whole model against finite differences', () => {
  const names = ['q, k, v', 'o', 'gate, up', 'down'];
  const places = [0, 1].flatMap((layer) => names.map((name, index) => ({ layer, name, place: 4 * layer + index })));

  test.each(places)('by a bias at $name of layer $layer', ({ place }) => {
    const [bias] = withBiases([decoder.slots[place]!]) as [BiasProjection];
    const batch = tokenBatchOf(ROWS.map(({ ids, trained }) => ({ ids: ids.subarray(0, 9), trained })));
    const width = decoder.slots[place]!.frozen.weight.shape[0]!;
    const numeric = centralDifferences((values) => {
      bias.setBias(values);
      return decoder.loss(batch).lossSum;
    }, new Float32Array(width));
    bias.setBias(new Float32Array(width));
    decoder.lossAndGradients(batch);
    expect(differenceByLargest(bias.takeGradient(), numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    bias.dispose();
  });
});

describe('a batch', () => {
  test('is the same as its rows, one at a time: loss and gradients of every place', () => {
    const biases = withBiases(decoder.slots);
    const whole = decoder.lossAndGradients(tokenBatchOf(ROWS));
    const gradients = biases.map((bias) => bias.takeGradient());
    let lossSum = 0;
    let labels = 0;
    for (const row of ROWS) {
      const result = decoder.lossAndGradients(tokenBatchOf([row]));
      lossSum += result.lossSum;
      labels += result.labels;
    }
    expect(labels).toBe(whole.labels);
    expect(Math.abs(lossSum / labels - whole.lossSum / labels)).toBeLessThan(1e-5);
    for (const [i, bias] of biases.entries()) {
      expect(differenceByLargest(bias.takeGradient(), gradients[i]!)).toBeLessThan(1e-5);
      bias.dispose();
    }
  });

  test('gives the logits of its rows, one at a time', () => {
    const { ids, rowLengths } = tokenBatchOf(ROWS);
    const logitsOf = (tokens: Int32Array, lengths: number[]) => {
      return scope(() => toFloat32Array(decoder.logits(tokens, lengths)));
    };
    const together = logitsOf(ids, rowLengths);
    let start = 0;
    for (const length of rowLengths) {
      const own = together.subarray(
        start * TINY_ARCHITECTURE.vocabSize,
        (start + length) * TINY_ARCHITECTURE.vocabSize,
      );
      expect(greatestDifference(logitsOf(ids.slice(start, start + length), [length]), own)).toBeLessThan(1e-5);
      start += length;
    }
  });

  test('has the loss that its logits say, with and without a backward pass', () => {
    const batch = tokenBatchOf(ROWS);
    const logits = scope(() => toFloat32Array(decoder.logits(batch.ids, batch.rowLengths)));
    let expected = 0;
    for (const [i, place] of batch.predictors.entries()) {
      const own = logits.subarray(place * TINY_ARCHITECTURE.vocabSize, (place + 1) * TINY_ARCHITECTURE.vocabSize);
      expected += Math.log(own.reduce((sum, logit) => sum + Math.exp(logit), 0)) - own[batch.labels[i]!]!;
    }
    const { lossSum, labels } = decoder.loss(batch);
    expect(labels).toBe(6 + 20 + 3 + 5);
    expect(Math.abs(lossSum - expected) / labels).toBeLessThan(1e-5);
    expect(Math.abs(decoder.lossAndGradients(batch).lossSum - lossSum) / labels).toBeLessThan(1e-6);
  });
});

/** Notes what is asked of a frozen projection. */
class Watched implements Projection {
  readonly trained = false;
  readonly calls: string[] = [];
  readonly #frozen: FrozenProjection;

  constructor(frozen: FrozenProjection) {
    this.#frozen = frozen;
  }

  forward(x: Tensor, record: boolean) {
    this.calls.push(record ? 'forward, saving' : 'forward');
    return this.#frozen.forward(x);
  }

  backward(gradient: Tensor, saved: unknown, wantInputGradient: boolean) {
    this.calls.push(wantInputGradient ? 'backward' : 'backward to nothing');
    return this.#frozen.backward(gradient, saved, wantInputGradient);
  }
}

describe('frozen weights', () => {
  test('are the same tensors with the same numbers after training passes, and hold no gradient', () => {
    const biases = withBiases(decoder.slots);
    const batch = tokenBatchOf(ROWS);
    decoder.lossAndGradients(batch); // makes the constants it needs
    const before = weightsOf(decoder).map((weight) => ({ id: weight.id, values: toFloat32Array(weight) }));
    const handles = liveTensorCount();
    decoder.lossAndGradients(batch);
    decoder.loss(batch);
    expect(liveTensorCount()).toBe(handles);
    expect(weightsOf(decoder).map((weight) => ({ id: weight.id, values: toFloat32Array(weight) }))).toEqual(before);
    for (const bias of biases) bias.dispose();
  });

  test('below the lowest adapted layer: nothing is saved and no gradient comes there', () => {
    const lower = decoder.slots.slice(0, 4).map((slot) => {
      const watched = new Watched(slot.frozen);
      slot.projection = watched;
      return watched;
    });
    const upper = new Watched(decoder.slots[7]!.frozen);
    decoder.slots[7]!.projection = upper;
    const [bias] = withBiases([decoder.slots[4]!]) as [BiasProjection];
    decoder.lossAndGradients(tokenBatchOf(ROWS));
    for (const { calls } of lower) expect(calls).toEqual(['forward']);
    expect(upper.calls).toEqual(['forward, saving', 'backward']);
    expect(bias.takeGradient().some((value) => value !== 0)).toBe(true);
    bias.dispose();
  });

  test('below the adapted place within its layer: no gradient goes on', () => {
    const below = [4, 5, 6].map((place) => {
      const watched = new Watched(decoder.slots[place]!.frozen);
      decoder.slots[place]!.projection = watched;
      return watched;
    });
    const [bias] = withBiases([decoder.slots[7]!]) as [BiasProjection];
    decoder.lossAndGradients(tokenBatchOf(ROWS));
    for (const { calls } of below) expect(calls).toEqual(['forward, saving']);
    expect(bias.takeGradient().some((value) => value !== 0)).toBe(true);
    bias.dispose();
  });

  test('with nothing adapted at all a backward pass only gives the loss', () => {
    const batch = tokenBatchOf(ROWS);
    const { lossSum } = decoder.loss(batch);
    const handles = liveTensorCount();
    expect(decoder.lossAndGradients(batch).lossSum).toBeCloseTo(lossSum, 4);
    expect(liveTensorCount()).toBe(handles);
  });
});

test('disposing frees every weight', () => {
  const before = liveTensorCount();
  const model = tinyDecoder('bfloat16', 2);
  expect(liveTensorCount()).toBeGreaterThan(before);
  model.dispose();
  expect(liveTensorCount()).toBe(before);
});
