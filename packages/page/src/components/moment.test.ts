import { expect, test } from 'vitest';
import { relativeText } from './moment.js';

test.each([
  [0, 'now'],
  [-3, 'now'],
  [12, '12 s ago'],
  [200, '3 min ago'],
  [-200, 'in 3 min'],
  [7300, '2 h ago'],
  [86_400, null],
])('%d seconds ago is %s', (seconds, text) => {
  expect(relativeText(seconds)).toBe(text);
});
