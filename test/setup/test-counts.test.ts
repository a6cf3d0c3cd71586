import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { countsLine, readTestCounts, sumOfCounts } from '../../checks/test-run/test-counts.mjs';

test('a test file that could not be loaded counts as failed', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-counts-'));
  const report = path.join(folder, 'report.json');
  const testResults = [
    { status: 'passed', assertionResults: [{ status: 'passed' }, { status: 'pending' }] },
    { status: 'failed', assertionResults: [{ status: 'passed' }, { status: 'failed' }] },
    { status: 'failed', assertionResults: [] },
  ];
  const numbers = { numPassedTests: 2, numFailedTests: 1, numPendingTests: 1, numTodoTests: 0 };
  await writeFile(report, JSON.stringify({ ...numbers, testResults }));
  expect(countsLine(await readTestCounts(report))).toBe('2 passed, 2 failed, 1 skipped');
  await rm(folder, { recursive: true });
});

test('nothing skipped is not mentioned', () => {
  expect(countsLine({ passed: 12, failed: 0, skipped: 0 })).toBe('12 passed, 0 failed');
});

test('two runs are counted as one', () => {
  const counts = [
    { passed: 12, failed: 0, skipped: 1 },
    { passed: 3, failed: 2, skipped: 0 },
  ];
  expect(countsLine(sumOfCounts(counts))).toBe('15 passed, 2 failed, 1 skipped');
});
