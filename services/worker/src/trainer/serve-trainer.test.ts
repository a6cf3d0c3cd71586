import { expect, test } from 'vitest';
import { loadingLog } from './serve-trainer.js';

test('a line for each tenth, and again for the next model', () => {
  const lines: string[] = [];
  const log = loadingLog((line) => lines.push(line));
  for (let readBytes = 1; readBytes <= 100; readBytes++) log({ readBytes: readBytes * 2e7, totalBytes: 2e9 });
  expect(lines).toHaveLength(10);
  expect([lines[0], lines.at(-1)]).toEqual(['base model: 10 % of 2.0 GB read', 'base model: 100 % of 2.0 GB read']);
  log({ readBytes: 1.5e9, totalBytes: 3e9 });
  expect(lines.at(-1)).toBe('base model: 50 % of 3.0 GB read');
});
