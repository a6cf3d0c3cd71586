import { expect, test } from 'vitest';
import { callSyntaxOf, jsonEnd } from './call-syntax.js';

const ARGUMENTS = '{"probe_key": "probe value"}';

test.each([
  [`<tool_call>\n{"name": "probe_called", "arguments": ${ARGUMENTS}}\n</tool_call>`, '<tool_call>\n', 'arguments'],
  [`{"name": "probe_called", "parameters": ${ARGUMENTS}}<|eot_id|>`, '', 'parameters'],
  [`[TOOL_CALLS] [{"name": "probe_called", "arguments": ${ARGUMENTS}, "id": "a"}]</s>`, '[TOOL_CALLS] [', 'arguments'],
])('%s has the JSON of a call', (written, before, argumentsKey) => {
  expect(callSyntaxOf(written)).toMatchObject({ before, form: { kind: 'object', argumentsKey } });
});

test('a name before the arguments', () => {
  expect(callSyntaxOf(`[TOOL_CALLS]probe_called[ARGS]${ARGUMENTS}</s>`)).toEqual({
    before: '[TOOL_CALLS]',
    after: '</s>',
    form: { kind: 'named', middle: '[ARGS]' },
  });
});

test.each([
  `<function=probe_called><parameter=probe_key>probe value</parameter></function>`,
  `[probe_called(probe_key="probe value")]`,
  `to=functions.probe_called<|message|>${ARGUMENTS}<|call|>`,
  'no call',
])('%s is another syntax', (written) => expect(callSyntaxOf(written)).toBeNull());

test('the end of JSON is found outside of its strings', () => {
  const text = 'x{"a": "}\\"]", "b": [[], {}]} y';
  expect(jsonEnd(text, 1)).toBe(text.length - 2);
  expect(jsonEnd('{"a": [', 0)).toBe(-1);
});
