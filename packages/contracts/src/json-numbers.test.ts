import { expect, test } from 'vitest';
import { JsonNumber, jsonOfNumbers, parseJsonNumbers } from './json-numbers.js';

test.each([
  '12.50',
  '[1.0,-0,1e400,9007199254740993,{"a":"1.0 is \\"2.50\\"","b\\\\":0.10}]',
  '{"1":[],"2":{"c":null,"d":true},"__proto__":1.0}',
  '"no number"',
])('%s is written as it was read', (json) => {
  expect(jsonOfNumbers(parseJsonNumbers(json))).toBe(json);
});

test('a number has its text', () => {
  const { a } = parseJsonNumbers('{"a": 1.20E+3}') as { a: JsonNumber };
  expect(a).toEqual(new JsonNumber('1.20E+3'));
});

test.each(['{"a": 01}', '[1.]', '{"a": 1.0', ''])('%j is refused as JSON.parse refuses it', (json) => {
  expect(() => parseJsonNumbers(json)).toThrow(SyntaxError);
});
