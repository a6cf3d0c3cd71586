import { parseJsonNumbers } from '@lorasmith/contracts';
import { expect, test } from 'vitest';
import { parseTemplate } from './compile-grader.js';

test('a template without places is its text', () => {
  expect(parseTemplate('a { b } $1', 'reference').render({ item: {}, text: 'x' })).toBe('a { b } $1');
});

test('what an answer has is put in as it is, not as a template', () => {
  const { render } = parseTemplate('<{{sample.output_text}}|{{item.a}}>', 'input');
  expect(render({ item: { a: '{{sample.output_text}}' }, text: '{{item.a}} $&' })).toBe(
    '<{{item.a}} $&|{{sample.output_text}}>',
  );
});

test('fields that objects have from elsewhere are none', () => {
  const { render, missingIn } = parseTemplate('{{item.constructor}}{{item.a.length}}', 'input');
  expect(render({ item: { a: 'abc' }, text: '' })).toBe('');
  expect(missingIn({ a: 'abc' })).toBe('item.constructor');
});

test('numbers are written as the row has them', () => {
  const { render } = parseTemplate('{{item.a}} {{item.b}} {{item.c}} {{sample.output_json.d}}', 'input');
  const item = parseJsonNumbers('{"a":12.50,"b":9007199254740993,"c":[1.0,1e400]}');
  expect(render({ item, text: '{"d": 2.00}' })).toBe('12.50 9007199254740993 [1.0,1e400] 2.00');
});

test('an answer that nests too deeply has no fields', () => {
  const { render } = parseTemplate('{{sample.output_json.a}}', 'input');
  const nested = (depth: number) => `{"a":${'['.repeat(depth)}1.0${']'.repeat(depth)}}`;
  expect(render({ item: {}, text: nested(100) })).toBe(`${'['.repeat(100)}1.0${']'.repeat(100)}`);
  expect(render({ item: {}, text: nested(20_000) })).toBe('');
});

test('numbers, lists and null are JSON', () => {
  const { render } = parseTemplate('{{item.a}} {{item.b}} {{item.c}}', 'input');
  expect(render({ item: { a: 1.5, b: ['x'], c: null }, text: '' })).toBe('1.5 ["x"] null');
});
