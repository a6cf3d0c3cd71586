import { describe, expect, it, test } from 'vitest';
import { answerLoss } from './answer-losses.js';
import { partnersWithin } from './judged-answers.js';

const SETTINGS = { beta: 0.3, desirable_weight: 1.4, undesirable_weight: 0.7 };

/** Nearly sure to be right, nearly sure to be wrong, and undecided. */
const RATIOS = [-40, -2.5, 0, 1.75, 60];

describe.each([true, false])('an answer with the label %s', (label) => {
  test.each(RATIOS)('has the derivative that finite differences have, of the ratio %s', (logRatio) => {
    const at = (changed: number) => answerLoss({ logRatio: changed, label, divergence: 0.8 }, SETTINGS).loss;
    const step = 1e-4;
    const { slope } = answerLoss({ logRatio, label, divergence: 0.8 }, SETTINGS);
    expect(slope).toBeCloseTo((at(logRatio + step) - at(logRatio - step)) / (2 * step), 6);
  });

  it('has a finite loss where no text is so likely or unlikely', () => {
    for (const logRatio of [-1e6, 1e6]) {
      const found = answerLoss({ logRatio, label, divergence: 0 }, SETTINGS);
      expect(Object.values(found).every(Number.isFinite)).toBe(true);
    }
  });
});

test('the losses are what the formula of KTO says', () => {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const scores = { logRatio: 1.75, divergence: 0.8 };
  const wanted = answerLoss({ ...scores, label: true }, SETTINGS);
  expect(wanted.loss).toBeCloseTo(1.4 * (1 - sigmoid(0.3 * (1.75 - 0.8))), 12);
  const unwanted = answerLoss({ ...scores, label: false }, SETTINGS);
  expect(unwanted.loss).toBeCloseTo(0.7 * (1 - sigmoid(0.3 * (0.8 - 1.75))), 12);
});

test('the partner of an answer is the one before it in its step', () => {
  const partners = partnersWithin([[3, 0, 2], Int32Array.of(1), [5, 4]], 6);
  expect([...partners]).toEqual([3, 1, 0, 2, 5, 4]);
});
