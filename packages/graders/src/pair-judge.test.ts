import { expect, test } from 'vitest';
import { compilePairJudge } from './pair-judge.js';

const judge = (changes: { rubric?: string; pattern?: string } = {}) =>
  compilePairJudge({ rubric: 'The right one.', ...changes });

test.each([
  ['Verdict: A', 'first'],
  ['A is short.\n\n**Verdict:** B.', 'second'],
  ['Verdict: tie', 'tie'],
  ['verdict: a tie', 'tie'],
  ['Verdict: [[C]]', 'tie'],
  ['A', 'first'],
  ['[[B]]\n', 'second'],
  ['Tie.', 'tie'],
  ['First I thought Verdict: A. Then: Verdict: B', 'second'],
  ['Answer A is a good one.', null],
  ['I prefer a verdict that is fair.', null],
  ['', null],
])('%j is %s', (said, verdict) => {
  expect(judge().verdictIn(said)).toBe(verdict);
});

test('a pattern of its own finds the verdict in its first group, in any case, or in all of its match', () => {
  const { verdictIn } = judge({ pattern: '"winner": *"(\\w+)"' });
  expect(verdictIn('{"winner": "b"}')).toBe('second');
  expect(verdictIn('{"winner": "nobody"}')).toBeNull();
  expect(judge({ pattern: '[AB]' }).verdictIn('it is A')).toBe('first');
});

test('the message has rubric, prompt and both answers as they are, and the reference where the rubric reads it', () => {
  const { messageOf, faultOf } = judge({ rubric: 'As {{item.reference}}, or {{item.reference.city}}.' });
  const message = messageOf({ prompt: '{{item.reference}}', reference: 'Rome', answers: ['$&', '{{x}}'] });
  expect(message).toContain('As Rome, or .');
  expect(message).toContain('[start of prompt]\n{{item.reference}}\n[end of prompt]');
  expect(message).toMatch(/answer A\]\n\$&\n.*answer B\]\n\{\{x\}\}\n/s);
  expect(faultOf({ prompt: '', reference: undefined })).toContain('no reference');
  expect(faultOf({ prompt: '', reference: { city: 1 } })).toBeNull();
  expect(judge({ rubric: '{{item.prompt}}' }).faultOf({ prompt: '', reference: undefined })).toBeNull();
});

test.each([
  [{ rubric: 'Is {{sample.output_text}} good?' }, 'rubric'],
  [{ rubric: '{{answer}}' }, 'rubric'],
  [{ pattern: '(' }, 'pattern'],
  [{ pattern: '(?=A)' }, 'pattern'],
])('%j is refused', (changes, param) => {
  expect(() => judge(changes)).toThrow(expect.objectContaining({ param }));
});
