import { type CallSyntax, JsonEnd } from '@lorasmith/model-folder';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type AnswerPart, CallParser } from './tool-calls.js';

const OBJECT = { kind: 'object', argumentsKey: 'arguments' } as const;
const HERMES: CallSyntax = {
  before: '<think>\n\n</think>\n\n<tool_call>\n',
  after: '\n</tool_call><|im_end|>\n',
  form: OBJECT,
};
const LLAMA: CallSyntax = { before: '', after: '<|eot_id|>', form: { kind: 'object', argumentsKey: 'parameters' } };
const MISTRAL_LIST: CallSyntax = { before: '[TOOL_CALLS] [', after: ']</s>', form: OBJECT };
const MISTRAL_NAMED: CallSyntax = { before: '[TOOL_CALLS]', after: '</s>', form: { kind: 'named', middle: '[ARGS]' } };

/** The parsed parts of a text, whichever pieces it comes in: all texts joined between calls. */
function parsed(syntax: CallSyntax, text: string, pieceLength = 1) {
  const parser = new CallParser(syntax, ['f', 'get_weather']);
  const parts: AnswerPart[] = [];
  for (let at = 0; at < text.length; at += pieceLength) parts.push(...parser.push(text.slice(at, at + pieceLength)));
  parts.push(...parser.end());
  const joined: string[] = [''];
  for (const part of parts) {
    if (part.kind === 'text') joined.push(joined.pop()! + part.text);
    else joined.push(`${part.name}(${part.arguments})`, '');
  }
  return joined.filter((one) => one !== '');
}

const CALL = '{"name": "f", "arguments": {"a": "}\\"", "b": [1, {"c": null}]}}';
const CALLED = 'f({"a":"}\\"","b":[1,{"c":null}]})';

describe.each([1, 2, 3, 7, 1_000])('in pieces of %d characters', (length) => {
  test.each([
    ['one call', HERMES, `<tool_call>\n${CALL}\n</tool_call>`, [CALLED]],
    [
      'text, two calls and text',
      HERMES,
      `Let me see.\n<tool_call>\n${CALL}\n</tool_call>\n<tool_call>${CALL}</tool_call>\nSo.`,
      ['Let me see.', CALLED, CALLED, '\nSo.'],
    ],
    ['a call without arguments', HERMES, '<tool_call>{"name": "f"}</tool_call>', ['f({})']],
    ['arguments as text', HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ['f({"a":1})']],
    [
      'numbers and texts as they are written',
      HERMES,
      '<tool_call>{"arguments": {"id": 12345678901234567890, "at": 1.0, "to": "a  \\"b\\": \\u00e9"}, "name": "f"}</tool_call>',
      ['f({"id":12345678901234567890,"at":1.0,"to":"a  \\"b\\": \\u00e9"})'],
    ],
    [
      'members that are named as those of a call',
      HERMES,
      '<tool_call>{"name": "f", "arguments": {"arguments": [1, {"name": "g"}]}}</tool_call>',
      ['f({"arguments":[1,{"name":"g"}]})'],
    ],
    [
      'a long number of a named call',
      MISTRAL_NAMED,
      '[TOOL_CALLS]f[ARGS]{"id": 9007199254740993}',
      ['f({"id":9007199254740993})'],
    ],
    ['no call', HERMES, 'A <tool and a <tool_cal.\n', ['A <tool and a <tool_cal.\n']],
    [
      'an unknown tool',
      HERMES,
      '<tool_call>{"name": "g", "arguments": {}}</tool_call>',
      ['<tool_call>{"name": "g", "arguments": {}}</tool_call>'],
    ],
    ['no JSON', HERMES, '<tool_call>f(1)</tool_call>', ['<tool_call>f(1)</tool_call>']],
    ['a call that is cut', HERMES, 'Yes. <tool_call>{"name": "f", "arg', ['Yes. <tool_call>{"name": "f", "arg']],
    [
      'a call alone',
      LLAMA,
      ' {"name": "get_weather", "parameters": {"place": "Oslo"}}',
      ['get_weather({"place":"Oslo"})'],
    ],
    [
      'two calls alone',
      LLAMA,
      '{"name": "f", "parameters": {}}; {"name": "f", "parameters": {"a": 2}}',
      ['f({})', 'f({"a":2})'],
    ],
    [
      'JSON that is no call',
      LLAMA,
      '{"answer": {"name": "f"}} {"name": "f", "parameters": {}}',
      ['{"answer": {"name": "f"}} {"name": "f", "parameters": {}}'],
    ],
    ['JSON that is no call, after white space', LLAMA, '\n {"answer": 1}', ['\n {"answer": 1}']],
    ['text with a call in it', LLAMA, 'Use {"name": "f", "parameters": {}}', ['Use {"name": "f", "parameters": {}}']],
    ['a list', MISTRAL_LIST, `[TOOL_CALLS] [${CALL}, ${CALL}]`, [CALLED, CALLED]],
    [
      'a name and arguments',
      MISTRAL_NAMED,
      'Well: [TOOL_CALLS]get_weather[ARGS]{"place": "Oslo"}[TOOL_CALLS]f[ARGS]{}',
      ['Well:', 'get_weather({"place":"Oslo"})', 'f({})'],
    ],
    [
      'a name without arguments',
      MISTRAL_NAMED,
      '[TOOL_CALLS]get_weather and more',
      ['[TOOL_CALLS]get_weather and more'],
    ],
  ] as const)('%s', (_, syntax, text, expected) => {
    expect(parsed(syntax, text, length)).toEqual(expected);
  });
});

test('each piece of a long call is looked at once', () => {
  const looked = vi.spyOn(JsonEnd.prototype, 'push');
  onTestFinished(() => looked.mockRestore());
  const call = `<tool_call>{"name": "f", "arguments": {"a": "${'\\"{'.repeat(5_000)}"}}</tool_call>`;
  expect(parsed(HERMES, call, 3)).toEqual([`f(${JSON.stringify({ a: '"{'.repeat(5_000) })})`]);
  const characters = looked.mock.calls.reduce((sum, [piece]) => sum + piece.length, 0);
  expect(looked.mock.calls.length).toBeGreaterThan(4_000);
  expect(characters).toBeLessThanOrEqual(call.length);
});

test('a call that begins with much white space is text', () => {
  const text = `<tool_call>${' '.repeat(700)}${CALL}`;
  expect(parsed(HERMES, text)).toEqual([text]);
});

test('text goes on at once, except what may announce a call', () => {
  const parser = new CallParser(HERMES, ['f']);
  expect(parser.push('Hello')).toEqual([{ kind: 'text', text: 'Hello' }]);
  expect(parser.push(', you <tool')).toEqual([{ kind: 'text', text: ', you' }]);
  expect(parser.push('s')).toEqual([{ kind: 'text', text: ' <tools' }]);
});
