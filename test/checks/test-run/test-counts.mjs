import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { ERRORS_FILE } from './errors-reporter.mjs';

/**
 * @typedef {{ passed: number, failed: number, skipped: number, failures: string[] }} TestCounts `failures`: the name of each test
 *   that failed and its message
 */

/** Lines of a failure's message that are printed again at the end. */
const MESSAGE_LINES = 12;

/**
 * Reads vitest's JSON report, and what failed outside of tests from beside it.
 *
 * @param {string} reportFile
 * @returns {Promise<TestCounts>} a test file that could not be loaded, and therefore reports no tests, counts as one failed test
 */
export async function readTestCounts(reportFile) {
  const report = JSON.parse(await readFile(reportFile, 'utf8'));
  /** @type {string[]} */
  const failures = [];
  for (const file of report.testResults) {
    const name = path.relative(ROOT_DIR, file.name);
    const tests = /** @type {{ status: string, fullName: string, failureMessages: string[] }[]} */ (
      file.assertionResults
    );
    const failed = tests.filter(({ status }) => status === 'failed');
    for (const test of failed) failures.push(failure(`${name} > ${test.fullName}`, test.failureMessages.join('\n')));
    if (file.status === 'failed' && failed.length === 0) failures.push(failure(name, file.message));
  }
  const errorsFile = path.join(path.dirname(reportFile), ERRORS_FILE);
  if (existsSync(errorsFile)) {
    const errors = JSON.parse(await readFile(errorsFile, 'utf8'));
    for (const { message } of errors) failures.push(failure('outside of the tests', message));
  }
  return {
    passed: report.numPassedTests,
    failed: failures.length,
    skipped: report.numPendingTests + report.numTodoTests,
    failures,
  };
}

/** @param {string} name @param {string} message @returns {string} the name, and the beginning of the message below it */
function failure(name, message) {
  const lines = stripVTControlCharacters(message).trim().split('\n').slice(0, MESSAGE_LINES);
  return [name, ...lines.map((line) => `    ${line}`)].join('\n');
}

/** @param {TestCounts} counts @returns {string} one line, such as `12 passed, 0 failed` */
export function countsLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/** @param {TestCounts[]} all @returns {TestCounts} */
export function sumOfCounts(all) {
  /** @type {TestCounts} */
  const total = { passed: 0, failed: 0, skipped: 0, failures: [] };
  for (const { passed, failed, skipped, failures } of all) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    total.failures.push(...failures);
  }
  return total;
}
