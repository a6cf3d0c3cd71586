import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram } from './run-program.mjs';
import { readTestCounts } from './test-counts.mjs';

/**
 * Runs vitest and counts its tests.
 *
 * @param {string[]} args after `vitest run`
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<{ passed: boolean, counts: import('./test-counts.mjs').TestCounts }>} a run that left no report counts
 *   as one failed test
 */
export async function runVitest(args, env) {
  const reportDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-test-'));
  try {
    const reportFile = path.join(reportDir, 'report.json');
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`];
    const passed = await runProgram('vitest/vitest.mjs', ['run', ...reporters, ...args], env);
    const counts = existsSync(reportFile) ? await readTestCounts(reportFile) : { passed: 0, failed: 1, skipped: 0 };
    return { passed, counts };
  } finally {
    await rm(reportDir, { recursive: true, force: true });
  }
}
