// npm test: runs set-up, then lint, type check and all tests. All of them run even if one fails. The last line is the count.
// --faults adds the fault suite and, on the emulated card, the suites of layers and trainings; both are included in the count.
// --audit checks the dependencies for known vulnerabilities.
// Continuous integration uses both.

import { cacheDir } from '../scripts/setup/locations.mjs';
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { formatNative } from './native-format.mjs';
import { auditDependencies, reportAudit } from './test-run/audit-dependencies.mjs';
import { runEmulatedTests } from './test-run/emulated-tests.mjs';
import { runProgram, runVitest } from './test-run/run-vitest.mjs';
import { countsLine, sumOfCounts } from './test-run/test-counts.mjs';

/** These always check the complete repository; the arguments of `npm test -- …` only select tests. */
const CHECKS = [
  { name: 'format and lint', program: '@biomejs/biome/bin/biome', args: ['check', '.'] },
  {
    name: 'floating promises',
    program: 'oxlint/bin/oxlint',
    args: ['--type-aware', '--allow', 'all', '--deny', 'typescript/no-floating-promises'],
  },
  { name: 'types', program: 'typescript/bin/tsc', args: ['--project', 'tsconfig.test.json'] },
  { name: 'types of the example', program: 'typescript/bin/tsc', args: ['--project', 'examples/from-scratch'] },
];

await runAsCommand(async () => {
  const { modelsDir } = await setUp({ cuda: 'emulated', browser: true });
  const env = { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir };
  const withFaults = process.argv.includes('--faults');
  const withAudit = process.argv.includes('--audit');
  const chosen = process.argv.slice(2).filter((argument) => !['--faults', '--audit'].includes(argument));
  /** @type {string[]} */
  const failures = [];
  for (const { name, program, args } of CHECKS) {
    console.log(`\nChecking ${name}`);
    if (!(await runProgram(program, args, env))) failures.push(name);
  }
  console.log('\nChecking format of C++');
  if (!(await formatNative({ write: false, env }))) failures.push('format of C++');
  if (withAudit) {
    console.log('\nAuditing the dependencies');
    const audit = await auditDependencies({ cache: cacheDir(process.env), env: process.env });
    if (!reportAudit(audit)) failures.push('audit of the dependencies');
  }
  const tests = await runVitest(chosen, env);
  if (!tests.passed) failures.push('tests');
  // Arguments that select tests select among those of the CPU.
  const extent = withFaults ? [] : ['--kernels'];
  const emulated = chosen.length === 0 ? await runEmulatedTests(extent, env) : null;
  if (emulated?.passed === false) failures.push('tests on the emulated card');
  const faults = withFaults ? await runVitest(['--config', 'vitest.faults.config.ts'], env) : null;
  if (faults?.passed === false) failures.push('faults');
  if (failures.length > 0) console.log(`\nFailed: ${failures.join(', ')}`);
  const runs = [tests, emulated, faults].flatMap((run) => (run === null ? [] : [run.counts]));
  console.log(countsLine(sumOfCounts(runs)));
  return failures.length > 0 ? 1 : 0;
});
