import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { readTestCounts } from './test-counts.mjs';

/** The counts of a run that ended without a report. @type {import('./test-counts.mjs').TestCounts} */
const NO_REPORT = { passed: 0, failed: 1, skipped: 0, failures: ['vitest ended without a report'] };

const VITEST = path.join(ROOT_DIR, 'node_modules/vitest/vitest.mjs');

/**
 * Runs vitest, prints the slowest files and counts the tests.
 *
 * @param {string[]} args after `vitest run`
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<{ passed: boolean, counts: import('./test-counts.mjs').TestCounts }>} a run without a report
 *   counts as one failed test
 */
export async function runVitest(args, env) {
  const reportDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-test-'));
  try {
    const reportFile = path.join(reportDir, 'report.json');
    const reporters = [
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      `--reporter=${fileURLToPath(new URL('files-and-errors-reporter.mjs', import.meta.url))}`,
    ];
    const passed = await runProgram(VITEST, ['run', ...reporters, ...args], env);
    const counts = existsSync(reportFile) ? await readTestCounts(reportFile) : NO_REPORT;
    return { passed, counts };
  } finally {
    await rm(reportDir, { recursive: true, force: true });
  }
}

/**
 * Runs a program with Node in the root of the repository, its output on the terminal.
 *
 * @param {string} file
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<boolean>} whether it exited with 0
 */
export async function runProgram(file, args, env) {
  const child = spawn(process.execPath, [file, ...args], {
    cwd: ROOT_DIR,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  return code === 0;
}
