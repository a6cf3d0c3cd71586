import { objectiveOf, PAIR_LOSSES, type PairLossName } from '@lorasmith/contracts';
import { describe, expect, it, test } from 'vitest';
import { answerLoss, type PairScores, pairLoss } from './preference-losses.js';

const SCORES: PairScores = {
  chosen: -14.5,
  rejected: -21.25,
  chosenTokens: 7,
  rejectedTokens: 12,
  reference: { chosen: -16.75, rejected: -19.5 },
};

const SETTINGS = { beta: 0.3, label_smoothing: 0.15, gamma: 0.4 };

/** Scores of every kind: nearly sure of the right answer, of the wrong one, and undecided. */
const CASES: PairScores[] = [
  SCORES,
  { ...SCORES, chosen: -60, rejected: -3 },
  { ...SCORES, chosen: -0.02, rejected: -90 },
  { ...SCORES, chosen: -16.75, rejected: -19.5 },
];

describe.each(PAIR_LOSSES)('%s', (loss) => {
  test.each(CASES)('has the derivatives that finite differences have, of $chosen and $rejected', (scores) => {
    const at = (changed: Partial<PairScores>) => pairLoss({ ...scores, ...changed }, { ...SETTINGS, loss }).loss;
    const step = 1e-4;
    const { chosen, rejected } = pairLoss(scores, { ...SETTINGS, loss });
    const byChosen = (at({ chosen: scores.chosen + step }) - at({ chosen: scores.chosen - step })) / (2 * step);
    const byRejected =
      (at({ rejected: scores.rejected + step }) - at({ rejected: scores.rejected - step })) / (2 * step);
    expect(chosen).toBeCloseTo(byChosen, 6);
    expect(rejected).toBeCloseTo(byRejected, 6);
  });

  it('is a finite number of answers that no text is', () => {
    const extreme = { ...SCORES, chosen: -1e6, rejected: -1e-3 };
    const found = pairLoss(extreme, { ...SETTINGS, loss });
    expect(Object.values(found).every(Number.isFinite)).toBe(true);
  });
});

test('orpo of an answer of which the model is certain is what it comes near to', () => {
  const of = (chosen: number, rejected: number) =>
    pairLoss({ ...SCORES, chosen, rejected }, { ...SETTINGS, loss: 'orpo' });
  const certain = of(0, -21.25);
  const oddsOfRejected = 1 / Math.expm1(21.25 / 12);
  expect(certain.loss).toBeCloseTo(0, 6);
  expect(certain.chosen).toBeCloseTo((-0.3 * oddsOfRejected) / 7, 6);
  expect(certain.rejected).toBeCloseTo(0, 6);
  for (const both of [of(-14.5, 0), of(0, 0)]) expect(Object.values(both).every(Number.isFinite)).toBe(true);
});

/** Losses by their formulas, with numbers that need no care. */
test.each<[PairLossName, number]>([
  ['sigmoid', Math.log(1 + Math.exp(-0.3 * 4))],
  ['hinge', 0],
  ['ipo', (2.25 / 7 + 1.75 / 12 - 1 / 0.6) ** 2],
  ['robust', (0.85 * Math.log(1 + Math.exp(-1.2)) - 0.15 * Math.log(1 + Math.exp(1.2))) / 0.7],
  ['apo_zero', 1 - 1 / (1 + Math.exp(-0.3 * 2.25)) + 1 / (1 + Math.exp(0.3 * 1.75))],
  ['sigmoid_norm', Math.log(1 + Math.exp(-0.3 * (2.25 / 7 + 1.75 / 12)))],
  ['cpo', 0.85 * Math.log(1 + Math.exp(-0.3 * 6.75)) + 0.15 * Math.log(1 + Math.exp(0.3 * 6.75))],
])('%s is what its formula says', (loss, expected) => {
  const reference = loss === 'cpo' ? null : SCORES.reference;
  expect(pairLoss({ ...SCORES, reference }, { ...SETTINGS, loss }).loss).toBeCloseTo(expected, 12);
});

it('fills in defaults that depend on the loss', () => {
  expect(objectiveOf({ kind: 'preference' })).toEqual({
    kind: 'preference',
    loss: 'sigmoid',
    beta: 0.1,
    label_smoothing: 0,
    sft_weight: 0,
    gamma: 0,
    desirable_weight: 1,
    undesirable_weight: 1,
  });
  expect(objectiveOf({ kind: 'preference', loss: 'simpo' })).toMatchObject({ gamma: 0.5, sft_weight: 0 });
  expect(objectiveOf({ kind: 'preference', loss: 'orpo' })).toMatchObject({ gamma: 0, sft_weight: 1 });
});

const ANSWER_SETTINGS = { beta: 0.3, desirable_weight: 1.4, undesirable_weight: 0.7 };

/** Nearly sure to be right, nearly sure to be wrong, and undecided. */
const RATIOS = [-40, -2.5, 0, 1.75, 60];

describe.each([true, false])('an answer with the label %s', (label) => {
  test.each(RATIOS)('has the derivative that finite differences have, of the ratio %s', (logRatio) => {
    const at = (changed: number) => answerLoss({ logRatio: changed, label, divergence: 0.8 }, ANSWER_SETTINGS).loss;
    const step = 1e-4;
    const { slope } = answerLoss({ logRatio, label, divergence: 0.8 }, ANSWER_SETTINGS);
    expect(slope).toBeCloseTo((at(logRatio + step) - at(logRatio - step)) / (2 * step), 6);
  });

  it('has a finite loss where no text is so likely or unlikely', () => {
    for (const logRatio of [-1e6, 1e6]) {
      const found = answerLoss({ logRatio, label, divergence: 0 }, ANSWER_SETTINGS);
      expect(Object.values(found).every(Number.isFinite)).toBe(true);
    }
  });
});

test('the losses are what the formula of KTO says', () => {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const scores = { logRatio: 1.75, divergence: 0.8 };
  const wanted = answerLoss({ ...scores, label: true }, ANSWER_SETTINGS);
  expect(wanted.loss).toBeCloseTo(1.4 * (1 - sigmoid(0.3 * (1.75 - 0.8))), 12);
  const unwanted = answerLoss({ ...scores, label: false }, ANSWER_SETTINGS);
  expect(unwanted.loss).toBeCloseTo(0.7 * (1 - sigmoid(0.3 * (0.8 - 1.75))), 12);
});
