import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

/** The counts of a run that ended without a report. @type {TestCounts} */
const NO_REPORT = { passed: 0, failed: 1, skipped: 0, failures: ['vitest ended without a report'] };

const VITEST = path.join(ROOT_DIR, 'node_modules/vitest/vitest.mjs');

/**
 * Runs vitest, adds up the processor time of its files and counts the tests. A file of the usual run that takes too much of it counts as a
 * failed test.
 *
 * @param {string[]} args after `vitest run`
 * @param {NodeJS.ProcessEnv} env
 * @param {number | 'inherit'} [output] descriptor of a file for vitest's output; the terminal by default
 * @returns {Promise<TestRun>}
 *
 * @typedef {{ passed: boolean, counts: TestCounts, times: string }} TestRun `times`: the table of processor times, empty for a single
 *   file. A run without a report counts as one failed test.
 */
export async function runVitest(args, env, output = 'inherit') {
  const reportDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-test-'));
  try {
    const reportFile = path.join(reportDir, 'report.json');
    const reporters = [
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      `--reporter=${fileURLToPath(import.meta.url)}`,
    ];
    const timesFile = path.join(reportDir, 'times.jsonl');
    const before = slowness();
    const passed = await runProgram(
      VITEST,
      ['run', ...reporters, ...args],
      { ...env, TEST_TIMES_FILE: timesFile },
      output,
    );
    const counts = existsSync(reportFile) ? await readTestCounts(reportFile) : NO_REPORT;
    const times = readTimes(timesFile);
    const areNamed = args.some((argument) => !argument.startsWith('-'));
    const failures = env.ALL_CASES === '1' || areNamed ? [] : tooLong(times, Math.max(before, slowness()));
    return {
      passed: passed && failures.length === 0,
      counts: { ...counts, failed: counts.failed + failures.length, failures: [...counts.failures, ...failures] },
      times: times.length > 1 ? timesText(times, env.ALL_CASES === '1' ? SHOWN.ofAllCases : SHOWN.usually) : '',
    };
  } finally {
    await rm(reportDir, { recursive: true, force: true });
  }
}

/** Prints the processor times and, as the last line, the counts. @param {TestRun} run */
export function printEnd({ times, counts }) {
  if (times !== '') console.log(times);
  console.log(countsLine(counts));
}

/**
 * Runs a program with Node in the root of the repository.
 *
 * @param {string} file
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {number | 'inherit'} [output] descriptor of a file for its output; the terminal by default
 * @returns {Promise<boolean>} whether it exited with 0
 */
export async function runProgram(file, args, env, output = 'inherit') {
  const child = spawn(process.execPath, [file, ...args], {
    cwd: ROOT_DIR,
    env,
    stdio: ['ignore', output, output],
  });
  const [code] = await once(child, 'exit');
  return code === 0;
}

/**
 * Seconds of user time that a file of the usual run may take on a processor as fast as {@link REFERENCE_MS} says: its own process, and that with its
 * child processes. Beyond the first are only the flows of whole services.
 */
const LIMITS_S = { own: 20, withChildren: 60 };
/** The slowest files in the table of times. Continuous integration, which has all cases, names enough of them to see where its time goes. */
const SHOWN = { usually: 10, ofAllCases: 30 };
/** Milliseconds of {@link yardstick} on the machine for which the limit holds: an Intel Xeon of 2023 at 2 GHz. */
const REFERENCE_MS = 400;

/** @typedef {{ file: string, own: number, seconds: number }} FileTime `seconds`: of its own process and its child processes */

/** The times that test/processor-time.ts recorded. @param {string} record @returns {FileTime[]} the longest first */
function readTimes(record) {
  if (!existsSync(record)) return [];
  const lines = readFileSync(record, 'utf8').trim().split('\n').filter(Boolean);
  const all = lines.map((line) => /** @type {{ file: string, own: number, ofChildren: number }} */ (JSON.parse(line)));
  return all
    .map(({ file, own, ofChildren }) => ({ file: path.relative(ROOT_DIR, file), own, seconds: own + ofChildren }))
    .sort((one, two) => two.seconds - one.seconds);
}

/** The table of the slowest files, and the sums by package or folder. @param {FileTime[]} times @param {number} shown */
function timesText(times, shown) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { file, seconds } of times) {
    const [top = '', second = ''] = file.split('/');
    const room = top === 'test' && second.endsWith('.ts') ? top : `${top}/${second}`;
    sums.set(room, (sums.get(room) ?? 0) + seconds);
  }
  const line = (/** @type {number} */ seconds, /** @type {string} */ name) =>
    `${seconds.toFixed(1).padStart(8)} s  ${name}`;
  const total = times.reduce((sum, { seconds }) => sum + seconds, 0);
  return [
    'Processor time (user) of the slowest files, with their child processes:',
    ...times.slice(0, shown).map(({ file, seconds }) => line(seconds, file)),
    'By package:',
    ...[...sums].sort(([, one], [, two]) => two - one).map(([room, seconds]) => line(seconds, room)),
    line(total, 'in all'),
  ].join('\n');
}

/** The files beyond a limit, which is larger on a slower machine. @param {FileTime[]} times @param {number} slowness @returns {string[]} */
function tooLong(times, slowness) {
  const [own, withChildren] = [LIMITS_S.own * slowness, LIMITS_S.withChildren * slowness];
  return times
    .filter((time) => time.own > own || time.seconds > withChildren)
    .map(
      (time) =>
        `${time.file} took ${time.own.toFixed(1)} s of processor time, and ${time.seconds.toFixed(1)} s with its child processes; a file of ` +
        `the usual run may take ${own.toFixed(0)} s, and ${withChildren.toFixed(0)} s. ` +
        'Leave some of its cases to continuous integration (test/usual-cases.ts).',
    );
}

/** The slowness of this machine now, in times of the reference; at least 1. */
function slowness() {
  return Math.max(1, yardstick() / REFERENCE_MS);
}

/** Milliseconds of user time of some work that only the processor decides. */
function yardstick() {
  const before = process.cpuUsage();
  let digest = Buffer.alloc(1_000);
  for (let round = 0; round < 100_000; round++)
    digest = Buffer.concat([createHash('sha256').update(digest).digest(), digest.subarray(32)]);
  return process.cpuUsage(before).user / 1e3;
}

/**
 * Runs the engine's suites on the CUDA engine with an emulated card.
 *
 * @param {string[]} args for vitest; `--all` includes the slow files, `--kernels` leaves out the suites of layers and trainings
 * @param {NodeJS.ProcessEnv} env
 * @param {number | 'inherit'} [output] as that of {@link runVitest}
 */
export async function runEmulatedTests(args, env, output) {
  const extent = args.includes('--all') ? 'all' : args.includes('--kernels') ? 'kernels' : 'usual';
  const chosen = args.filter((argument) => !['--all', '--kernels'].includes(argument));
  const own = { ...env, EMULATED_TESTS: extent };
  return await runVitest(['--config', 'test/emulated/vitest.config.ts', ...chosen], own, output);
}

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

/** A file beside vitest's JSON report, which lacks what failed outside of tests: `{ message }[]`. */
const ERRORS_FILE = 'unhandled-errors.json';

/**
 * Writes {@link ERRORS_FILE}. A reporter of vitest.
 */
export default class ErrorsReporter {
  /** @type {string | undefined} */
  #folder;

  /** @param {import('vitest/node').Vitest} vitest */
  onInit({ config: { outputFile } }) {
    if (typeof outputFile === 'object' && outputFile.json !== undefined) this.#folder = path.dirname(outputFile.json);
  }

  /**
   * @param {readonly import('vitest/node').TestModule[]} modules
   * @param {readonly import('vitest/node').SerializedError[]} errors outside of tests, such as a rejected promise that nobody awaits, or a
   *   process that died: then its files have not ended
   */
  onTestRunEnd(modules, errors) {
    if (this.#folder !== undefined && errors.length > 0) {
      const notEnded = modules.filter((module) => ['pending', 'queued'].includes(module.state()));
      const described = [
        ...errors.map(({ message, stack }) => ({ message: stack ?? message })),
        ...notEnded.map(({ moduleId }) => ({ message: `did not end: ${path.relative(ROOT_DIR, moduleId)}` })),
      ];
      writeFileSync(path.join(this.#folder, ERRORS_FILE), JSON.stringify(described));
    }
  }
}
