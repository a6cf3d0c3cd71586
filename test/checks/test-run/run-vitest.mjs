import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { countsLine, readTestCounts } from './test-counts.mjs';

/** The counts of a run that ended without a report. @type {import('./test-counts.mjs').TestCounts} */
const NO_REPORT = { passed: 0, failed: 1, skipped: 0, failures: ['vitest ended without a report'] };

const VITEST = path.join(ROOT_DIR, 'node_modules/vitest/vitest.mjs');

/**
 * Runs vitest, adds up the processor time of its files and counts the tests. A file of the usual run that takes too much of it counts as a
 * failed test.
 *
 * @param {string[]} args after `vitest run`
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<{ passed: boolean, counts: import('./test-counts.mjs').TestCounts, times: string }>} `times`: the table of processor
 *   times, empty for a single file. A run without a report counts as one failed test.
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

/** Prints the processor times and, as the last line, the counts. @param {Awaited<ReturnType<typeof runVitest>>} run */
export function printEnd({ times, counts }) {
  if (times !== '') console.log(times);
  console.log(countsLine(counts));
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
 */
export async function runEmulatedTests(args, env) {
  const extent = args.includes('--all') ? 'all' : args.includes('--kernels') ? 'kernels' : 'usual';
  const chosen = args.filter((argument) => !['--all', '--kernels'].includes(argument));
  return await runVitest(['--config', 'test/emulated/vitest.config.ts', ...chosen], { ...env, EMULATED_TESTS: extent });
}
