import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { readTimes, slowness, timesText, tooLong } from './processor-times.mjs';
import { readTestCounts } from './test-counts.mjs';

/** The counts of a run that ended without a report. @type {import('./test-counts.mjs').TestCounts} */
const NO_REPORT = { passed: 0, failed: 1, skipped: 0, failures: ['vitest ended without a report'] };

const VITEST = path.join(ROOT_DIR, 'node_modules/vitest/vitest.mjs');

/**
 * Runs vitest, prints the processor time of its files and counts the tests. A file of the usual run that takes too much of it counts as a failed
 * test.
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
      `--reporter=${fileURLToPath(new URL('errors-reporter.mjs', import.meta.url))}`,
    ];
    const timesFile = path.join(reportDir, 'times.jsonl');
    const before = slowness();
    const passed = await runProgram(VITEST, ['run', ...reporters, ...args], { ...env, TEST_TIMES_FILE: timesFile });
    const counts = existsSync(reportFile) ? await readTestCounts(reportFile) : NO_REPORT;
    const times = readTimes(timesFile);
    if (times.length > 1) console.log(timesText(times));
    const areNamed = args.some((argument) => !argument.startsWith('-'));
    const failures = env.ALL_CASES === '1' || areNamed ? [] : tooLong(times, Math.max(before, slowness()));
    return {
      passed: passed && failures.length === 0,
      counts: { ...counts, failed: counts.failed + failures.length, failures: [...counts.failures, ...failures] },
    };
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
