import { expect, test } from 'vitest';
import { answerScores } from './similarity.js';

test.each([
  ['the same but for blanks', ' 2024-01-02\n', '2024-01-02', { exact_match: 1, f1: 1, rouge_l: 1 }],
  ['the same words in another order', 'b a', 'a b', { exact_match: 0, f1: 1, rouge_l: 0.5 }],
  ['half of the words', 'The cat', 'the dog', { exact_match: 0, f1: 0.5, rouge_l: 0.5 }],
  ['nothing', '', 'the dog', { exact_match: 0, f1: 0, rouge_l: 0 }],
  ['signs without words', '+', '+', { exact_match: 1, f1: 1, rouge_l: 1 }],
])('an answer of %s', (_, text, reference, scores) => {
  expect(answerScores([{ text, reference }])).toEqual({ rows: 1, ...scores });
});

test('several answers have the means', () => {
  const scores = answerScores([
    { text: 'a', reference: 'a' },
    { text: 'b', reference: 'a' },
  ]);
  expect(scores).toEqual({ rows: 2, exact_match: 0.5, f1: 0.5, rouge_l: 0.5 });
});
