import { expect, test } from 'vitest';
import { faultLines, foldedFaults } from './api-error.js';

const at = (line: number, more: object = {}) => ({
  code: 'invalid_dataset',
  message: 'It is not JSON.',
  line,
  ...more,
});
const tooLong = (line: number, tokens: number) => ({
  code: 'row_too_long',
  message: `The row has ${tokens} tokens; the limit is 16.`,
  line,
  tokens,
});

test.each([
  [[3], 'line 3'],
  [[3, 5], 'lines 3 and 5'],
  [[1, 4, 7, 9], 'lines 1, 4, 7 and 9'],
  [[1, 4, 7, ...Array.from({ length: 47 }, (_, index) => 10 + index)], 'lines 1, 4, 7 and 47 more'],
])('the same fault of lines %j is one, of %s', (lines, place) => {
  expect(foldedFaults(lines.map((line) => at(line)))).toEqual([{ place, message: 'It is not JSON.' }]);
});

test('rows that are too long are one fault with the range of their lengths', () => {
  expect(faultLines([tooLong(1, 20), tooLong(2, 900), tooLong(5, 20)])).toEqual([
    '  lines 1, 2 and 5: The row has 20 to 900 tokens; the limit is 16.',
  ]);
  expect(faultLines([tooLong(1, 20), tooLong(2, 20)])).toEqual([
    '  lines 1 and 2: The row has 20 tokens; the limit is 16.',
  ]);
});

test('faults that differ in message, dataset, field or code stay apart, in their order', () => {
  const faults = [
    at(1),
    at(2, { message: 'It is a list.' }),
    at(3, { dataset: 'ds_1' }),
    at(4),
    { code: 'invalid_request', message: 'It is too large.', param: 'lora.r' },
    { code: 'invalid_request', message: 'It is too large.', param: 'lora.alpha' },
    { code: 'invalid_request', message: 'It is too large.' },
  ];
  expect(faultLines(faults)).toEqual([
    '  lines 1 and 4: It is not JSON.',
    '  line 2: It is a list.',
    '  line 3 of ds_1: It is not JSON.',
    '  lora.r: It is too large.',
    '  lora.alpha: It is too large.',
    '  It is too large.',
  ]);
});
