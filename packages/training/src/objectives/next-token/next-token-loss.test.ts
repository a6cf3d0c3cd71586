import { OutputHead, type OutputHeadSettings } from '@lorasmith/models';
import { dispose, liveTensorCount, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { centralDifferences, FINITE_DIFFERENCE_TOLERANCE } from '../../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../../test/numeric/normal-numbers.js';
import { nextTokenLoss } from './next-token-loss.js';

const [PLACES, HIDDEN, VOCAB] = [7, 4, 9];
const STATES = normalNumbers(PLACES * HIDDEN, 1);
const HEAD = normalNumbers(VOCAB * HIDDEN, 2);
const LABELS = Int32Array.of(0, 8, 3, 3, 5, 1, 7);

function computed(states: Float32Array<ArrayBuffer>, logitsInChunk?: number, settings: OutputHeadSettings = {}) {
  return scope(() => {
    const chunks = nextTokenLoss(
      tensorOf(states, [PLACES, HIDDEN]),
      tensorOf(LABELS, [PLACES]),
      new OutputHead(tensorOf(HEAD, [VOCAB, HIDDEN]), { logitsInChunk, ...settings }),
      true,
    );
    const numbersOf = (tensors: readonly Tensor[]) => tensors.flatMap((tensor) => [...toFloat32Array(tensor)]);
    const losses = numbersOf(chunks.map(({ loss }) => loss));
    const gradient = Float32Array.from(numbersOf(chunks.map(({ gradient }) => gradient!)));
    const lossSum = losses.reduce((sum, loss) => sum + loss, 0);
    return { lossSum, gradient, chunks: chunks.map(({ gradient }) => gradient!.shape[0]) };
  });
}

test('the sum of -log softmax at the labels', () => {
  let expected = 0;
  for (let place = 0; place < PLACES; place++) {
    const logits = Array.from({ length: VOCAB }, (_, token) => {
      let sum = 0;
      for (let i = 0; i < HIDDEN; i++) sum += STATES[place * HIDDEN + i]! * HEAD[token * HIDDEN + i]!;
      return sum;
    });
    expected += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[LABELS[place]!]!;
  }
  expect(Math.abs(computed(STATES).lossSum - expected)).toBeLessThan(1e-5);
});

test.each([
  [undefined, [7]],
  [3 * VOCAB, [3, 3, 1]],
  [1, [1, 1, 1, 1, 1, 1, 1]],
])('with at most %s logits at once: chunks, and the gradient against finite differences', (logitsInChunk, chunks) => {
  const numeric = centralDifferences((states) => computed(states, logitsInChunk).lossSum, STATES);
  const actual = computed(STATES, logitsInChunk);
  expect(actual.chunks).toEqual(chunks);
  expect(differenceByLargest(actual.gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
});

test('in chunks it is what it is in one piece', () => {
  const whole = computed(STATES);
  const chunked = computed(STATES, 3 * VOCAB);
  expect(Math.abs(chunked.lossSum - whole.lossSum)).toBeLessThan(1e-5);
  expect(greatestDifference(chunked.gradient, whole.gradient)).toBeLessThan(1e-5);
});

test('an error in a later chunk leaves no tensor alive', () => {
  const weight = tensorOf(HEAD, [VOCAB, HIDDEN]);
  const head = new OutputHead(weight, { logitsInChunk: 3 * VOCAB });
  const before = liveTensorCount();
  const failing = () =>
    scope(() => {
      const labels = tensorOf(Int32Array.of(0, 8, 3, 3), [4]); // too few for the second chunk
      nextTokenLoss(tensorOf(STATES, [PLACES, HIDDEN]), labels, head, true);
    });
  expect(failing).toThrow();
  expect(liveTensorCount()).toBe(before);
  dispose(weight);
});

test('without a backward pass only the losses and the correct labels are kept', () => {
  scope(() => {
    const states = tensorOf(STATES, [PLACES, HIDDEN]);
    const labels = tensorOf(LABELS, [PLACES]);
    const head = new OutputHead(tensorOf(HEAD, [VOCAB, HIDDEN]), { logitsInChunk: 3 * VOCAB });
    nextTokenLoss(states, labels, head, false); // makes the constants it needs
    const before = liveTensorCount();
    const chunks = nextTokenLoss(states, labels, head, false);
    expect(chunks.map(({ gradient }) => gradient)).toEqual([null, null, null]);
    expect(liveTensorCount()).toBe(before + 2 * chunks.length); // the losses, and whether each label is right
  });
});

describe('with scaled and capped logits', () => {
  const SETTINGS = { scale: 0.7, softcap: 0.8 };

  test('the sum of -log softmax of softcap · tanh(scale · logit / softcap)', () => {
    let expected = 0;
    for (let place = 0; place < PLACES; place++) {
      const logits = Array.from({ length: VOCAB }, (_, token) => {
        let sum = 0;
        for (let i = 0; i < HIDDEN; i++) sum += STATES[place * HIDDEN + i]! * HEAD[token * HIDDEN + i]!;
        return SETTINGS.softcap * Math.tanh((SETTINGS.scale * sum) / SETTINGS.softcap);
      });
      expected += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[LABELS[place]!]!;
    }
    expect(Math.abs(computed(STATES, undefined, SETTINGS).lossSum - expected)).toBeLessThan(1e-5);
  });

  test('its gradient against finite differences, in chunks as in one piece', () => {
    const numeric = centralDifferences((states) => computed(states, undefined, SETTINGS).lossSum, STATES);
    const { gradient } = computed(STATES, undefined, SETTINGS);
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    expect(greatestDifference(computed(STATES, 3 * VOCAB, SETTINGS).gradient, gradient)).toBeLessThan(1e-6);
  });
});
