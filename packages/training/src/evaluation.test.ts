import type { Evaluation } from '@lorasmith/contracts';
import { describe, expect, test } from 'vitest';
import { EvaluationWatch } from './evaluation.js';

const evaluation = (loss: number): Evaluation => ({
  loss,
  perplexity: null,
  accuracy: 0.5,
  tokens: 1,
  trained_tokens: 1,
});

/** The number of the evaluation, from 1, after which training ends; null if it never does. */
function endOf(patience: number, min_delta: number, losses: number[]): number | null {
  const watch = new EvaluationWatch({ patience, min_delta });
  for (const [position, loss] of losses.entries()) {
    watch.add(position + 1, evaluation(loss));
    if (watch.isExhausted) return position + 1;
  }
  return null;
}

describe('early stopping', () => {
  test.each<[string, number, number, number[], number | null]>([
    ['a loss that falls never ends it', 1, 0, [3, 2, 1, 0.5], null],
    ['patience counts evaluations without a gain in a row', 2, 0, [3, 4, 2, 3, 2.5, 1], 5],
    ['the same loss is no gain', 2, 0, [3, 3, 3], 3],
    ['less than min_delta is no gain', 2, 0.5, [3, 2.8, 2.6], 3],
    ['small gains that add up to min_delta are one', 2, 0.5, [3, 2.7, 2.4, 2.1, 1.8], null],
    ['exactly min_delta is no gain', 1, 1, [3, 2], 2],
  ])('%s', (_, patience, minDelta, losses, end) => {
    expect(endOf(patience, minDelta, losses)).toBe(end);
  });

  test('training never ends early without early stopping', () => {
    const watch = new EvaluationWatch(null);
    for (let step = 1; step <= 100; step++) watch.add(step, evaluation(step));
    expect(watch.isExhausted).toBe(false);
  });
});

test('the best is the lowest loss, the first of equal ones, whatever min_delta is', () => {
  const watch = new EvaluationWatch({ patience: 5, min_delta: 1 });
  expect(watch.best).toBeNull();
  for (const [step, loss] of [3, 3.5, 2.9, 2.9, 4].entries()) watch.add(step, evaluation(loss));
  expect(watch.best).toEqual({ step: 2, evaluation: evaluation(2.9) });
});

test('what it knows goes through a checkpoint and back', () => {
  const losses = [3, 3.5, 2.5, 2.75, 2.6, 2.55];
  const whole = new EvaluationWatch({ patience: 3, min_delta: 0.1 });
  let resumed = new EvaluationWatch({ patience: 3, min_delta: 0.1 });
  for (const [step, loss] of losses.entries()) {
    whole.add(step, evaluation(loss));
    resumed.add(step, evaluation(loss));
    const saved = JSON.parse(JSON.stringify(resumed.progress));
    resumed = new EvaluationWatch({ patience: 3, min_delta: 0.1 });
    resumed.restore(saved);
    expect(resumed.progress).toEqual(whole.progress);
    expect(resumed.isExhausted).toBe(whole.isExhausted);
  }
  expect(whole.isExhausted).toBe(true);
});
