import { describe, expect, test } from 'vitest';
import {
  type Conversation,
  conversationOf,
  EMPTY_CONVERSATION,
  messagesFor,
  numbersOf,
  questionOf,
  textOf,
  withAnswer,
  withTurn,
} from './conversation.js';

const settings = { ...EMPTY_CONVERSATION.settings, system: 'Be short.' };

function talk(): Conversation {
  const first = withTurn({ turns: [], settings }, 'one?');
  const answered = withAnswer(
    withAnswer(first.conversation, first.turn.id, 'base', { model: 'tiny', text: 'base 1', state: 'done' }),
    first.turn.id,
    'adapter',
    { model: 'ad_1', text: 'adapter 1', state: 'cut' },
  );
  return withTurn(answered, 'two?').conversation;
}

test('each side continues its own answers', () => {
  const system = { role: 'system', content: 'Be short.' };
  expect(messagesFor(talk(), 'base', 2)).toEqual([
    system,
    { role: 'user', content: 'one?' },
    { role: 'assistant', content: 'base 1' },
    { role: 'user', content: 'two?' },
  ]);
  expect(messagesFor(talk(), 'adapter', 2)[2]).toEqual({ role: 'assistant', content: 'adapter 1' });
  // Asking again for an earlier answer leaves out what came later.
  expect(messagesFor(talk(), 'adapter', 1)).toEqual([system, { role: 'user', content: 'one?' }]);
});

test('an answer for a turn that is gone changes nothing', () => {
  expect(withAnswer(EMPTY_CONVERSATION, 7, 'base', { model: 'tiny', text: 'late', state: 'done' }).turns).toEqual([]);
});

describe('the storage of the tab', () => {
  test('gives a conversation back; what was being streamed has stopped', () => {
    const streaming = withAnswer(talk(), 2, 'base', { model: 'tiny', text: 'tw', state: 'streaming' });
    const stored = conversationOf(textOf(streaming));
    expect(stored.turns[1]?.answers.base).toEqual({ model: 'tiny', text: 'tw', state: 'stopped' });
    expect({ ...stored, turns: stored.turns.slice(0, 1) }).toEqual({ ...talk(), turns: talk().turns.slice(0, 1) });
  });

  test.each([
    null,
    '',
    'null',
    '[]',
    '{"turns": [1]}',
    '{"turns": [{"id": 1, "user": "x", "answers": {"base": "x"}}]}',
  ])('the storage of the tab with %s is an empty conversation', (text) =>
    expect(conversationOf(text)).toEqual(EMPTY_CONVERSATION),
  );

  test('keeps the last turns alone', () => {
    let long = EMPTY_CONVERSATION;
    for (let i = 0; i < 150; i++) long = withTurn(long, `turn ${i}`).conversation;
    const { turns } = conversationOf(textOf(long));
    expect([turns.length, turns.at(-1)?.user]).toEqual([100, 'turn 149']);
  });
});

test('settings become numbers, or faults with their field', () => {
  expect(numbersOf({ ...settings, temperature: '0.7', topP: '0.9', maxTokens: '64', seed: '-3' })).toEqual({
    request: { temperature: 0.7, top_p: 0.9, max_tokens: 64, seed: -3 },
    faults: {},
  });
  expect(numbersOf({ ...settings, temperature: '', topP: '', maxTokens: '', seed: '' }).request).toEqual({});
  const { request, faults } = numbersOf({ ...settings, temperature: '3', topP: '0', maxTokens: '1.5', seed: 'x' });
  expect(request).toEqual({});
  expect(Object.keys(faults)).toEqual(['temperature', 'topP', 'maxTokens', 'seed']);
});

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
