import { describe, expect, test } from 'vitest';
import { fuzzyMatch, rougeL, rougeN } from './similarity.js';

describe('similarities', () => {
  // rapidfuzz 3.14.6 `fuzz.ratio(a, b) / 100`, rouge-score 0.1.2 without stemming: fmeasure of rouge1, rouge2 and rougeL.
  test.each([
    [
      'the cat sat on the mat',
      'the cat is on the mat',
      [0.9302325581395349, 0.8333333333333334, 0.6, 0.8333333333333334],
    ],
    ['May 3, 2019.', '2019-05-03', [0.36363636363636365, 0.3333333333333333, 0, 0.3333333333333333]],
    ['a a a b', 'a b b', [0.6666666666666667, 0.5714285714285715, 0.4, 0.5714285714285715]],
    ['Hello, World!', 'hello world', [0.75, 1, 1, 1]],
    ['', 'a', [0, 0, 0, 0]],
    ['one two three four five six', 'six five four three two one', [0.4814814814814815, 1, 0, 0.16666666666666666]],
  ])('of %j and %j are those of rapidfuzz and rouge-score', (text, reference, [fuzzy, one, two, l]) => {
    expect(fuzzyMatch(text, reference)).toBeCloseTo(fuzzy!, 12);
    expect(rougeN(text, reference, 1)).toBeCloseTo(one!, 12);
    expect(rougeN(text, reference, 2)).toBeCloseTo(two!, 12);
    expect(rougeL(text, reference)).toBeCloseTo(l!, 12);
  });

  test('of long texts are those of their beginnings', () => {
    const text = 'ab '.repeat(20_000);
    expect(fuzzyMatch(text, text)).toBe(1);
    expect(rougeL(text, `${text}c`)).toBe(1);
  });
});
