import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { countsLine, readTestCounts, sumOfCounts } from '../checks/run-vitest.mjs';

test('what failed is counted and named, with the beginning of its message, a file that could not be loaded and an error outside of tests too', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-counts-'));
  const report = path.join(folder, 'report.json');
  const passed = { status: 'passed', fullName: 'adds', failureMessages: [] };
  const failed = {
    status: 'failed',
    fullName: 'lists jobs',
    failureMessages: [`\u001b[31mexpected 1${'\nat'.repeat(40)}`],
  };
  const file = (name: string) => path.join(import.meta.dirname, name);
  const testResults = [
    {
      name: file('a.test.ts'),
      status: 'passed',
      message: '',
      assertionResults: [passed, { ...passed, status: 'pending' }],
    },
    { name: file('b.test.ts'), status: 'failed', message: '', assertionResults: [passed, failed] },
    { name: file('c.test.ts'), status: 'failed', message: 'no such module', assertionResults: [] },
  ];
  const numbers = { numPassedTests: 2, numFailedTests: 1, numPendingTests: 1, numTodoTests: 0 };
  await writeFile(report, JSON.stringify({ ...numbers, testResults }));
  const errors = [{ message: 'Error: Timed out in waitUntil!\n    at isWritten' }];
  await writeFile(path.join(folder, 'unhandled-errors.json'), JSON.stringify(errors));
  const counts = await readTestCounts(report);
  expect(countsLine(counts)).toBe('2 passed, 3 failed, 1 skipped');
  expect(counts.failures).toEqual([
    `test/setup/b.test.ts > lists jobs\n    expected 1${'\n    at'.repeat(11)}`,
    'test/setup/c.test.ts\n    no such module',
    'outside of the tests\n    Error: Timed out in waitUntil!\n        at isWritten',
  ]);
  await rm(folder, { recursive: true });
});

test('nothing skipped is not mentioned', () => {
  expect(countsLine({ passed: 12, failed: 0, skipped: 0, failures: [] })).toBe('12 passed, 0 failed');
});

test('two runs are counted as one', () => {
  const counts = [
    { passed: 12, failed: 0, skipped: 1, failures: [] },
    { passed: 3, failed: 2, skipped: 0, failures: ['a', 'b'] },
  ];
  const sum = sumOfCounts(counts);
  expect(countsLine(sum)).toBe('15 passed, 2 failed, 1 skipped');
  expect(sum.failures).toEqual(['a', 'b']);
});
