import { expect, test } from 'vitest';
import { questionOf } from './row-question.js';

const message = (role: string, content: string) => ({ role, content });

test('a conversation of one question, with and without a system message', () => {
  const turns = [message('user', 'Who?'), message('assistant', 'I.')];
  expect(questionOf(JSON.stringify({ messages: turns }))).toEqual({ system: '', question: 'Who?', answer: 'I.' });
  const told = [message('system', 'Be brief.'), ...turns];
  const expected = { system: 'Be brief.', question: 'Who?', answer: 'I.' };
  expect(questionOf(JSON.stringify({ messages: told }))).toEqual(expected);
  expect(questionOf(JSON.stringify({ prompt: told.slice(0, 2), completion: told.slice(2) }))).toEqual(expected);
});

test('a prompt with its completion', () => {
  const row = { prompt: 'Say 1.', completion: ' It is 1.' };
  expect(questionOf(JSON.stringify(row))).toEqual({ system: '', question: 'Say 1.', answer: 'It is 1.' });
});

test.each([
  'not JSON',
  '7',
  '{"text": "no question"}',
  JSON.stringify({ messages: [message('user', 'one')] }),
  JSON.stringify({ messages: [message('user', 'a'), message('assistant', 'b'), message('user', 'c')] }),
  JSON.stringify({ messages: [{ role: 'user', content: [{ type: 'text' }] }, message('assistant', 'b')] }),
])('%s is no question', (line) => {
  expect(questionOf(line)).toBeNull();
});
