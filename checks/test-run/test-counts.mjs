import { readFile } from 'node:fs/promises';

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} TestCounts
 */

/**
 * Reads vitest's JSON report.
 *
 * @param {string} reportFile
 * @returns {Promise<TestCounts>} a test file that could not be loaded, and therefore reports no tests, counts as one failed test
 */
export async function readTestCounts(reportFile) {
  const report = JSON.parse(await readFile(reportFile, 'utf8'));
  let brokenFiles = 0;
  for (const file of report.testResults) {
    const tests = /** @type {{ status: string }[]} */ (file.assertionResults);
    if (file.status === 'failed' && !tests.some(({ status }) => status === 'failed')) brokenFiles += 1;
  }
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/** @param {TestCounts} counts @returns {string} one line, such as `12 passed, 0 failed` */
export function countsLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/** @param {TestCounts[]} all @returns {TestCounts} */
export function sumOfCounts(all) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const { passed, failed, skipped } of all) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
  }
  return total;
}
