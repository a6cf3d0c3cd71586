import { expect, test } from 'vitest';
import { parseFormula } from './formula.js';

const values = new Map([
  ['a', 2],
  ['b_2', 3],
]);

test.each([
  ['1', 1],
  ['a', 2],
  [' a + b_2 * 4 ', 14],
  ['(a + b_2) * 4', 20],
  ['10 - 3 - 2', 5],
  ['16 / 4 / 2', 2],
  ['-a * -b_2', 6],
  ['--a', 2],
  ['-(a - 5)', 3],
  ['min(a, b_2, 1)', 1],
  ['max(a, b_2)', 3],
  ['abs(a - b_2) + .5e1', 6],
  ['0.5*a+0.25*max(0,b_2-1)', 1.5],
])('%s is %f', (formula, value) => {
  expect(parseFormula(formula).value(values)).toBe(value);
});

test('has its names', () => {
  expect([...parseFormula('a + min(b, a) * c').names]).toEqual(['a', 'b', 'c']);
});

test.each([
  ['', 'the end is not expected at character 1'],
  ['a +', 'the end is not expected at character 4'],
  ['a b', 'b is not expected at character 3'],
  ['(a', 'the end is not expected at character 3'],
  ['a)', ') is not expected at character 2'],
  ['a ** 2', '* is not expected at character 4'],
  ['a; b', '; is not expected'],
  ['pow(a, 2)', 'There is no function pow'],
  ['toString(a)', 'There is no function toString'],
  ['abs(a, 2)', 'abs takes 1 values, not 2'],
  ['a.constructor', '. is not expected'],
  ['a[0]', '[ is not expected'],
  ['min()', ') is not expected'],
  [`${'('.repeat(100)}a${')'.repeat(100)}`, 'deeper than 32 levels'],
])('%s cannot be read', (formula, message) => {
  expect(() => parseFormula(formula)).toThrow(message);
});
