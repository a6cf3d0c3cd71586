// npm test: set-up, then lint, type check and all tests. All of them run even if one fails, and the last line is the count.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { countsLine, readTestCounts } from './test-run/test-counts.mjs';

/** Everything is checked as the repository has it; the arguments of `npm test -- …` choose tests only. */
const CHECKS = [
  { name: 'format and lint', program: '@biomejs/biome/bin/biome', args: ['check', '.'] },
  {
    name: 'floating promises',
    program: 'oxlint/bin/oxlint',
    // Of itself it only warns about them.
    args: ['--type-aware', '--deny', 'typescript/no-floating-promises'],
  },
  { name: 'types', program: 'typescript/bin/tsc', args: ['--project', 'tsconfig.test.json'] },
];

/**
 * @param {string} program below node_modules
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<boolean>} whether it exited with 0
 */
async function run(program, args, env) {
  const child = spawn(process.execPath, [path.join(ROOT_DIR, 'node_modules', program), ...args], {
    cwd: ROOT_DIR,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  return code === 0;
}

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const env = { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir };
  /** @type {string[]} */
  const failures = [];
  for (const { name, program, args } of CHECKS) {
    console.log(`\nChecking ${name}`);
    if (!(await run(program, args, env))) failures.push(name);
  }
  const reportDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-test-'));
  try {
    const reportFile = path.join(reportDir, 'report.json');
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`];
    const testsPassed = await run('vitest/vitest.mjs', ['run', ...reporters, ...process.argv.slice(2)], env);
    if (!testsPassed) failures.push('tests');
    if (failures.length > 0) console.log(`\nFailed: ${failures.join(', ')}`);
    const counts = existsSync(reportFile) ? await readTestCounts(reportFile) : { passed: 0, failed: 1, skipped: 0 };
    console.log(countsLine(counts));
  } finally {
    await rm(reportDir, { recursive: true, force: true });
  }
  return failures.length > 0 ? 1 : 0;
});
