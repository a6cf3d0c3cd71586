import { expect, test } from 'vitest';
import { parseTemplate } from './template.js';

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

test('numbers, lists and null are JSON', () => {
  const { render } = parseTemplate('{{item.a}} {{item.b}} {{item.c}}', 'input');
  expect(render({ item: { a: 1.5, b: ['x'], c: null }, text: '' })).toBe('1.5 ["x"] null');
});
