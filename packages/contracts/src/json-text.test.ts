import { expect, test } from 'vitest';
import { JsonNumber, jsonOfNumbers, memberTexts, nestsDeeperThan, parseJsonNumbers } from './json-text.js';

test('arrays and objects both count', () => {
  expect(nestsDeeperThan(3, '{"a":[{"b":1}],"c":[[1],[2]]}')).toBe(false);
  expect(nestsDeeperThan(2, '{"a":[{"b":1}]}')).toBe(true);
});

test('brackets within strings do not count, whatever their escapes', () => {
  expect(nestsDeeperThan(1, '{"a":"[[[[{{{{"}')).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\"[[","b":"\\"}`)).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\",[[`)).toBe(true);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\\"[[","b":"[["}`)).toBe(false);
  expect(nestsDeeperThan(1, String.raw`{"a":"\\\\",[[`)).toBe(true);
  expect(nestsDeeperThan(1, '{"a":"[[')).toBe(false);
});

test('ten megabytes take linear time', () => {
  // A search from each bracket would not end within the time limit of a test.
  expect(nestsDeeperThan(16, '['.repeat(10 * 2 ** 20))).toBe(true);
  expect(nestsDeeperThan(16, '[]'.repeat(5 * 2 ** 20))).toBe(false);
});

test('members have the text that they have in the JSON', () => {
  const json = String.raw` { "a" : 12.50, "b":[1.0, {"a":"}],\""}] ,"c\u0031": "x,\\" , "__proto__":null,"a":-1e400 } `;
  expect([...memberTexts(json)]).toEqual([
    ['a', '-1e400'],
    ['b', String.raw`[1.0, {"a":"}],\""}]`],
    ['c1', String.raw`"x,\\"`],
    ['__proto__', 'null'],
  ]);
  expect(memberTexts('{}').size).toBe(0);
});

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
