import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Tool } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { compileChatTemplate } from './chat-template.js';
import { jsonWithWholeFloats, parseWithWholeFloats, WholeFloat } from './python-values.js';
import { conversationOf } from './template-messages.js';

// Made by fixtures/python-values/make.py with transformers.
const path = join(import.meta.dirname, '../fixtures/python-values/cases.json');
const { template, cases } = JSON.parse(await readFile(path, 'utf8'));
const compiled = (source: string) => compileChatTemplate(source, { tokens: {}, model: 'tiny' });

test.each(cases as { name: string; arguments?: string; content?: string; text: string }[])(
  '$name: the same text as in Python',
  ({ arguments: given, content, text }) => {
    const call = { type: 'function' as const, function: { name: 'f', arguments: given ?? '' } };
    const { messages } = conversationOf({
      messages:
        content === undefined
          ? [
              { role: 'user', content: 'Hi' },
              { role: 'assistant', content: null, tool_calls: [call] },
            ]
          : [{ role: 'user', content }],
    });
    expect(compiled(template).render(messages, { addGenerationPrompt: false })).toBe(text);
  },
);

test('tools that differ in the form of a number alone have texts of their own', () => {
  const toolWith = (value: string) =>
    parseWithWholeFloats(
      `[{"type": "function", "function": {"name": "f", "parameters": {"default": ${value}}}}]`,
    ) as Tool[];
  const template = compiled('{{ tools | tojson }}');
  const textOf = (value: string) => template.render([], { addGenerationPrompt: false, tools: toolWith(value) });
  expect(textOf('1')).toContain('"default": 1}');
  expect(textOf('1.0')).toContain('"default": 1.0}');
  expect(textOf('[1.0, {"a": 2e1}]')).toContain('"default": [1.0, {"a": 20.0}]}');
});

test('numbers within strings stay text, and JSON writes a whole float as a number', () => {
  const json = '{"a": "1.0, \\"2.0", "b\\\\": 3.0, "1.0": [-1E2, 1.5, 2], "c": "\\\\\\\\"}';
  const parsed = parseWithWholeFloats(json) as Record<string, unknown[]>;
  expect(JSON.stringify(parsed)).toBe(JSON.stringify(JSON.parse(json)));
  expect(parsed['b\\']).toEqual(new WholeFloat(3));
  expect(parsed['1.0']!.map((part) => part instanceof WholeFloat)).toEqual([true, false, false]);
  expect(jsonWithWholeFloats(parsed)).toBe('{"a":"1.0, \\"2.0","b\\\\":3.0,"1.0":[-100.0,1.5,2],"c":"\\\\\\\\"}');
  expect(jsonWithWholeFloats(parseWithWholeFloats('[-0.0, 1e30, 2E2]'))).toBe('[-0.0,1e+30,200.0]');
  expect(() => parseWithWholeFloats('{"a": 1.0')).toThrow(SyntaxError);
});
