import { type ActingAdapter, LoraAdapter, OutputHead, type OutputHeadSettings } from '@lorasmith/models';
import {
  chooseKernels,
  dispose,
  liveTensorCount,
  scope,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { centralDifferences, FINITE_DIFFERENCE_TOLERANCE } from '../../../../../test/numeric/central-differences.js';
import { differenceByLargest, greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../../test/numeric/normal-numbers.js';
import { TESTED_KERNELS } from '../../../../../test/usual-cases.js';
import { nextTokenLoss } from '../label-losses.js';

const [PLACES, HIDDEN, VOCAB] = [7, 4, 9];
const STATES = normalNumbers(PLACES * HIDDEN, 1);
const HEAD = normalNumbers(VOCAB * HIDDEN, 2);
const LABELS = Int32Array.of(0, 8, 3, 3, 5, 1, 7);

const BASE_ALONE = { adapters: [], record: true, wantHidden: true };
const headOf = (weight: Tensor, settings: OutputHeadSettings, kernels = chooseKernels('raw')) =>
  new OutputHead(kernels, weight, 'lm_head', settings);

function computed(states: Float32Array<ArrayBuffer>, logitsInChunk?: number, settings: OutputHeadSettings = {}) {
  return scope(() => {
    const chunks = nextTokenLoss(
      tensorOf(states, [PLACES, HIDDEN]),
      LABELS,
      headOf(tensorOf(HEAD, [VOCAB, HIDDEN]), { logitsInChunk, ...settings }),
      BASE_ALONE,
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
  for (let index = 0; index < PLACES; index++) {
    const logits = Array.from({ length: VOCAB }, (_, token) => {
      let sum = 0;
      for (let i = 0; i < HIDDEN; i++) sum += STATES[index * HIDDEN + i]! * HEAD[token * HIDDEN + i]!;
      return sum;
    });
    expected += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[LABELS[index]!]!;
  }
  expect(Math.abs(computed(STATES).lossSum - expected)).toBeLessThan(1e-5);
});

test.each([
  [undefined, [7]],
  [3 * VOCAB, [3, 3, 1]],
  [1, [1, 1, 1, 1, 1, 1, 1]],
])(
  'the loss with at most %s logits at once: chunks, and the gradient against finite differences',
  (logitsInChunk, chunks) => {
    const numeric = centralDifferences((states) => computed(states, logitsInChunk).lossSum, STATES);
    const actual = computed(STATES, logitsInChunk);
    expect(actual.chunks).toEqual(chunks);
    expect(differenceByLargest(actual.gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
  },
);

test('the loss in chunks is what it is in one piece', () => {
  const whole = computed(STATES);
  const chunked = computed(STATES, 3 * VOCAB);
  expect(Math.abs(chunked.lossSum - whole.lossSum)).toBeLessThan(1e-5);
  expect(greatestDifference(chunked.gradient, whole.gradient)).toBeLessThan(1e-5);
});

test('an error in a later chunk leaves no tensor alive', () => {
  const weight = tensorOf(HEAD, [VOCAB, HIDDEN]);
  const head = headOf(weight, { logitsInChunk: 3 * VOCAB });
  const forward = head.forward.bind(head);
  let chunks = 0;
  head.forward = (...args) => {
    if (++chunks === 3) throw new Error('no memory for the last chunk');
    return forward(...args);
  };
  const before = liveTensorCount();
  const failing = () => scope(() => nextTokenLoss(tensorOf(STATES, [PLACES, HIDDEN]), LABELS, head, BASE_ALONE));
  expect(failing).toThrow('no memory for the last chunk');
  expect(liveTensorCount()).toBe(before);
  dispose(weight);
});

test('without a backward pass only the losses and the correct labels are kept', () => {
  scope(() => {
    const states = tensorOf(STATES, [PLACES, HIDDEN]);
    const head = headOf(tensorOf(HEAD, [VOCAB, HIDDEN]), { logitsInChunk: 3 * VOCAB });
    const forward = { ...BASE_ALONE, record: false };
    nextTokenLoss(states, LABELS, head, forward); // makes the constants it needs
    const before = liveTensorCount();
    const chunks = nextTokenLoss(states, LABELS, head, forward);
    expect(chunks.map(({ gradient }) => gradient)).toEqual([null, null, null]);
    expect(liveTensorCount()).toBe(before + 2 * chunks.length); // the losses, and whether each label is right
  });
});

describe('with scaled and capped logits', () => {
  const SETTINGS = { scale: 0.7, softcap: 0.8 };

  test('the sum of -log softmax of softcap · tanh(scale · logit / softcap)', () => {
    let expected = 0;
    for (let index = 0; index < PLACES; index++) {
      const logits = Array.from({ length: VOCAB }, (_, token) => {
        let sum = 0;
        for (let i = 0; i < HIDDEN; i++) sum += STATES[index * HIDDEN + i]! * HEAD[token * HIDDEN + i]!;
        return SETTINGS.softcap * Math.tanh((SETTINGS.scale * sum) / SETTINGS.softcap);
      });
      expected += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[LABELS[index]!]!;
    }
    expect(Math.abs(computed(STATES, undefined, SETTINGS).lossSum - expected)).toBeLessThan(1e-5);
  });

  test('the gradient of scaled and capped logits against finite differences, in chunks as in one piece', () => {
    const numeric = centralDifferences((states) => computed(states, undefined, SETTINGS).lossSum, STATES);
    const { gradient } = computed(STATES, undefined, SETTINGS);
    expect(differenceByLargest(gradient, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    expect(greatestDifference(computed(STATES, 3 * VOCAB, SETTINGS).gradient, gradient)).toBeLessThan(1e-6);
  });
});

describe.each(TESTED_KERNELS)('with LoRA on the head, with %s kernels', (source) => {
  const kernels = chooseKernels(source);

  interface Owner {
    first: number;
    count: number;
    dropout?: number;
  }

  /** The loss of all places, and the gradients by each adapter's parameters and by the hidden states. */
  function adapted(owners: readonly Owner[], settings: OutputHeadSettings, parameters?: Float32Array<ArrayBuffer>) {
    return scope(() => {
      const head = headOf(tensorOf(HEAD, [VOCAB, HIDDEN]), settings, kernels);
      const adapters = owners.map(({ dropout = 0 }, index) => {
        const targets = [{ name: 'lm_head', rank: 2, scale: 1.5 }];
        const adapter = new LoraAdapter([head.group], { targets, dropout, seed: index });
        const numbers = parameters ?? normalNumbers(adapter.parameterCount, 5 + index);
        adapter.setParameters(tensorOf(numbers, [numbers.length]));
        return adapter;
      });
      const acting = owners.map(({ first, count }, i): ActingAdapter => {
        const tokens = count === PLACES ? undefined : { first, count };
        return { adapter: adapters[i]!, tokens, dropoutSeed: [3 + i, 4] };
      });
      const chunks = nextTokenLoss(tensorOf(STATES, [PLACES, HIDDEN]), LABELS, head, {
        adapters: acting,
        record: true,
        wantHidden: true,
      });
      const all = (part: 'loss' | 'gradient') => chunks.flatMap((chunk) => [...toFloat32Array(chunk[part]!)]);
      const losses = all('loss');
      const result = {
        losses,
        lossSum: losses.reduce((sum, loss) => sum + loss, 0),
        byHidden: Float32Array.from(all('gradient')),
        byParameters: adapters.map((adapter) => toFloat32Array(adapter.takeGradient())),
        chunks: chunks.map(({ loss }) => loss.shape[0]),
      };
      for (const adapter of adapters) adapter.dispose();
      return result;
    });
  }

  const ALL: Owner = { first: 0, count: PLACES };
  const COUNT = 2 * (HIDDEN + VOCAB);

  test.each([
    [{}],
    [{ logitsInChunk: 3 * VOCAB }],
    [{ scale: 0.7, softcap: 2 }],
    [{ scale: 0.7, softcap: 2, logitsInChunk: 3 * VOCAB }],
  ])('the gradients by A, B and hidden states against finite differences: %j', (settings) => {
    const numbers = normalNumbers(COUNT, 5);
    const { byParameters, byHidden, losses } = adapted([ALL], settings, numbers);
    const numeric = centralDifferences((parameters) => adapted([ALL], settings, parameters).lossSum, numbers);
    expect(differenceByLargest(byParameters[0]!, numeric)).toBeLessThan(FINITE_DIFFERENCE_TOLERANCE);
    const alone = computed(STATES, undefined, settings);
    expect(greatestDifference(byHidden, alone.gradient)).toBeGreaterThan(0.01);
    expect(Math.abs(losses.reduce((sum, loss) => sum + loss, 0) - alone.lossSum)).toBeGreaterThan(0.01);
  });

  test('an adapter has the chunks of its own rows, and beside others the bits that it has alone', () => {
    const settings = { logitsInChunk: 2 * VOCAB };
    const owners = [
      { first: 0, count: 1, dropout: 0.5 },
      { first: 2, count: 5, dropout: 0.5 },
    ];
    const both = adapted(owners, settings);
    expect(both.chunks).toEqual([1, 1, 2, 2, 1]);
    const other = adapted([{ ...owners[0]!, count: 2 }, owners[1]!], settings);
    expect(other.byParameters[1]).toEqual(both.byParameters[1]);
    expect(other.losses.slice(2)).toEqual(both.losses.slice(2));
    // Each chunk drops other numbers.
    expect(adapted([{ ...ALL, dropout: 0.5 }], settings).losses).not.toEqual(
      adapted([{ ...ALL, dropout: 0.5 }], {}).losses,
    );
  });
});
