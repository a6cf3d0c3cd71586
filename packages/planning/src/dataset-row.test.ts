import { describe, expect, it, test } from 'vitest';
import { checkRow, usedColumns } from './dataset-row.js';

const user = { role: 'user', content: 'Hi' };
const assistant = { role: 'assistant', content: 'Hello' };

const calling = (name: string, values: unknown) => ({
  role: 'assistant',
  content: null,
  tool_calls: [{ id: 'a', type: 'function', function: { name, arguments: values } }],
});
const asking = calling('f', '{"a": [1, {"b": null}]}');
const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } };

describe('checkRow', () => {
  it.each([
    ['messages', { messages: [{ role: 'system', content: '' }, user, assistant] }],
    [
      'messages',
      {
        messages: [
          { role: 'developer', content: [{ type: 'text', text: 'a' }] },
          { ...user, name: 'ann' },
          { ...asking, weight: 0, refusal: null, audio: null, function_call: null },
          { role: 'tool', tool_call_id: 'a', content: '1' },
          { ...assistant, tool_calls: null, weight: 1 },
        ],
        tools: [tool],
        parallel_tool_calls: false,
      },
    ],
    ['messages', { messages: [user, calling('f', { a: 1 })], tools: null }],
    [
      'messages',
      { messages: [user, { ...assistant, reasoning_content: 'Hm.' }, user, { ...asking, reasoning_content: null }] },
    ],
    ['messages', { messages: [user, calling('f', '')] }],
    ['prompt_completion', { prompt: '', completion: 'b' }],
    ['instruction', { instruction: 'a', output: 'b' }],
    ['instruction', { instruction: 'a', input: 'c', output: 'b' }],
    ['text', { text: 'a' }],
    ['features', { features: [0, -1.5], label: 3 }],
  ])('accepts a row of format %s', (format, row) => {
    expect(checkRow(row)).toEqual({ format, row, faults: [] });
  });

  it.each([
    ['not an object', 'text', 'invalid_dataset', undefined],
    ['null', null, 'invalid_dataset', undefined],
    ['an array', [{ text: 'a' }], 'invalid_dataset', undefined],
    ['no known key', { txt: 'a' }, 'invalid_dataset', undefined],
    ['no messages', { messages: [] }, 'invalid_dataset', 'messages'],
    ['too many messages', { messages: Array(1001).fill(assistant) }, 'invalid_dataset', 'messages'],
    ['messages that are no list', { messages: 'Hi' }, 'invalid_dataset', 'messages'],
    ['an unknown role', { messages: [{ role: 'bot', content: '' }, assistant] }, 'invalid_dataset', 'messages.0.role'],
    ['no content', { messages: [{ role: 'user' }, assistant] }, 'invalid_dataset', 'messages.0.content'],
    ['an unknown key', { text: 'a', source: 'b' }, 'unknown_field', 'source'],
    ['an unknown key of a message', { messages: [{ ...user, x: 1 }, assistant] }, 'unknown_field', 'messages.0.x'],
    ['keys of two formats', { text: 'a', prompt: 'b', completion: 'c' }, 'unknown_field', 'text'],
    ['no completion', { prompt: 'a' }, 'invalid_dataset', 'completion'],
    ['no prompt', { completion: 'a' }, 'invalid_dataset', 'prompt'],
    ['an empty completion', { prompt: 'a', completion: '' }, 'no_trained_tokens', 'completion'],
    ['an empty output', { instruction: 'a', output: '' }, 'no_trained_tokens', 'output'],
    ['an empty text', { text: '' }, 'no_trained_tokens', 'text'],
    ['no assistant', { messages: [user] }, 'no_trained_tokens', 'messages'],
    [
      'a silent assistant',
      { messages: [user, { ...assistant, content: '' }] },
      'no_trained_tokens',
      'messages.1.content',
    ],
    ['a lone surrogate', { text: 'a\ud800b' }, 'invalid_dataset', 'text'],
    ['no features', { features: [], label: 0 }, 'invalid_dataset', 'features'],
    ['a label that is no integer', { features: [1], label: 0.5 }, 'invalid_dataset', 'label'],
    ['a negative label', { features: [1], label: -1 }, 'invalid_dataset', 'label'],
    ['a label beyond int32', { features: [1], label: 2 ** 53 }, 'invalid_dataset', 'label'],
    ['an infinite feature', { features: [1, Number.POSITIVE_INFINITY], label: 0 }, 'invalid_dataset', 'features.1'],
    ['a feature beyond float32', { features: [1e39], label: 0 }, 'invalid_dataset', 'features.0'],
  ])('refuses %s', (_, row, code, param) => {
    const checked = checkRow(row);
    expect(checked.row).toBeNull();
    expect(checked.faults[0]).toMatchObject(param === undefined ? { code } : { code, param });
  });

  it.each([
    [[{ text: 'a' }], 'The row is a list.'],
    [{ txt: 'a' }, 'A row is an object with "messages" and optionally "tools"'],
    [{ text: 'a', source: 'b' }, 'Unknown key "source": this object has "text". Leave it out.'],
    [{ text: 'a', instruction: 'b', output: 'c' }, 'Unknown key "text": this object has "instruction", "output"'],
    [{ messages: [user, { role: 'assistant', content: 5 }] }, 'must be a text, or a list of parts'],
    [
      { messages: [{ ...user, content: [{ type: 'image_url', image_url: { url: 'x' } }] }, assistant] },
      'Images are not supported',
    ],
    [
      { messages: [{ ...user, content: [{ type: 'input_audio', input_audio: {} }] }, assistant] },
      'Audio parts are not',
    ],
    [{ messages: [user, { role: 'assistant', content: null, refusal: 'No.' }] }, 'Refusals are not supported'],
    [{ messages: [user, { role: 'assistant', content: 'a', audio: { id: 'x' } }] }, 'Audio is not supported'],
    [
      { messages: [user, { role: 'assistant', content: null, function_call: { name: 'f' } }] },
      'the older form of tools',
    ],
    [{ messages: [user, { role: 'function', name: 'f', content: '1' }, assistant] }, 'the older form of tools'],
    [{ messages: [user, assistant], functions: [] }, 'the older form of tools'],
    [{ messages: [user, { ...assistant, weight: 0.5 }] }, 'must be 0 or 1'],
    [{ messages: [{ ...user, weight: 1 }, assistant] }, 'Only an assistant message has a weight'],
    [{ messages: [user, { ...assistant, weight: 0 }] }, 'Every assistant message has the weight 0'],
    [{ messages: [user, assistant], tools: [{ type: 'retrieval' }] }, 'The key "function" is missing'],
    [{ messages: [user, assistant], tools: 'f' }, 'must be a list of {"type"'],
    [{ messages: [user, assistant], tools: [tool, tool] }, 'two tools named "f"'],
    [
      { messages: [user, { ...asking, parallel: true }] },
      'a message has "role", "content", "reasoning_content", "name"',
    ],
    [{ messages: [user, calling('f', '{"a": 1')] }, 'not a JSON object'],
    [{ messages: [user, calling('f', '[1]')] }, 'not a JSON object'],
    [{ messages: [user, calling('f', '{"id": 12345678901234567890}')] }, 'a number beyond 2^53'],
    [{ messages: [user, calling('f', `${'{"a":'.repeat(50)}1${'}'.repeat(50)}`)] }, 'nested deeper'],
    [{ messages: [user, calling('f', 7)] }, 'must be a JSON object, as text'],
    [{ messages: [{ ...user, tool_calls: asking.tool_calls }, assistant] }, 'Only an assistant message has tool_calls'],
    [
      { messages: [{ ...user, reasoning_content: 'Hm.' }, assistant] },
      'Only an assistant message has reasoning_content',
    ],
    [{ messages: [user, { ...assistant, reasoning_content: 5 }] }, 'must be a text'],
    [{ messages: [user, { ...assistant, reasoning_content: 'a\ud800' }] }, 'lone surrogate'],
    [{ messages: [user, { role: 'assistant', reasoning_content: 'Hm.' }] }, 'without tool_calls needs one'],
    [{ messages: [{ ...user, tool_call_id: 'a' }, assistant] }, 'Only a tool message has tool_call_id'],
    [{ messages: [user, { role: 'tool', tool_call_id: 'b', content: '1' }, asking] }, 'No message before this one'],
    [{ messages: [user, { role: 'tool', tool_call_id: 'a' }, asking] }, 'The content is missing'],
    [
      {
        messages: [user, { ...asking, tool_calls: [...asking.tool_calls, ...asking.tool_calls] }],
        parallel_tool_calls: false,
      },
      'has 2 calls, but parallel_tool_calls is false',
    ],
    [{ messages: [user, calling('f', '{"a": "\\ud800"}')] }, 'lone surrogate'],
    [{ prompt: 'a', response: 'b' }, 'The key "completion" is missing.'],
    [{ messages: [user, { role: 'assistant', content: null }] }, 'without tool_calls needs one'],
    [{ prompt: [user], completion: [assistant] }, 'It is a list of messages'],
  ])('says of %j what to send', (row, part) => {
    expect(checkRow(row).faults[0]?.message).toContain(part);
  });

  it('refuses keys that reach for prototypes', () => {
    for (const key of ['__proto__', 'constructor', 'prototype', 'toString']) {
      const checked = checkRow(JSON.parse(`{"text": "a", "${key}": {"polluted": true}}`));
      expect(checked.faults).toMatchObject([{ code: 'unknown_field', param: key }]);
    }
    expect(checkRow(JSON.parse('{"__proto__": {"text": "a"}}')).format).toBeNull();
  });

  it('names every fault of a row, up to a bound', () => {
    const two = checkRow({ messages: [{ role: 'x', content: 1 }] });
    expect(two.faults.map(({ param }) => param)).toEqual(['messages.0.role', 'messages.0.content']);
    const many = checkRow({ features: Array(1000).fill('x'), label: 0 });
    expect(many.faults.length).toBeGreaterThan(1);
    expect(many.faults.length).toBeLessThanOrEqual(8);
  });

  it('accepts pairs of surrogates', () => {
    expect(checkRow({ text: '😀' }).faults).toEqual([]);
  });
});

const messages = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
];

test.each([
  [{ text: 'a', id: 1, source: 'b' }, { text: 'a' }, ['id', 'source']],
  [{ prompt: 'a', completion: 'b', meta: {} }, { prompt: 'a', completion: 'b' }, ['meta']],
  [{ instruction: 'a', input: 'b', output: 'c', text: 'd' }, { instruction: 'a', input: 'b', output: 'c' }, ['text']],
  [{ messages, tools: [], prompt_id: 'x' }, { messages, tools: [] }, ['prompt_id']],
  [{ features: [1], label: 0, name: 'x' }, { features: [1], label: 0 }, ['name']],
  [JSON.parse('{"text":"a","__proto__":{"text":"b"}}'), { text: 'a' }, ['__proto__']],
])('of %j', (row, used, leftOut) => {
  expect(usedColumns(row)).toEqual({ row: used, leftOut });
});

test.each([
  ['that are all used', { text: 'a' }],
  ['of which one may have another name', { prompt: 'a', answer: 'b' }],
  ['of which one is refused by name', { messages, functions: [{ name: 'f' }] }],
  ['of no known format', { a: 1 }],
  ['that are none', [1]],
])('a row stays as it is with columns %s', (_name, row) => {
  expect(usedColumns(row)).toEqual({ row, leftOut: [] });
});
