import { spawn } from 'node:child_process';
import { createWriteStream, renameSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * @typedef {object} PartCommand
 * @property {string} program the executable
 * @property {string[]} args
 * @property {NodeJS.ProcessEnv} env
 *
 * @typedef {'done' | 'failed' | 'crashed' | 'out of time'} Ending
 *
 * @typedef {object} PartEnd
 * @property {Ending} ending `failed`: it exited with 1 or 69, which is its verdict; `crashed`: any other end
 * @property {string} how such as `exited with 1`
 * @property {number} seconds
 * @property {any} result what it had written to its result file by then; null: nothing
 * @property {string} log its output
 */

/** A worker's, without a card that it can trust. */
const NO_GPU_EXIT_CODE = 69;
/** The time that a part gets that is out of time to stop its own processes. */
const STOP_MS = 5_000;

/**
 * Runs one part in a process group of its own. Its result file is read however it ends, so a crash or a hang loses only what
 * came after it.
 *
 * @param {{ name: string, out: string, limitMs: number, command: PartCommand, signal?: AbortSignal }} options `out`: the
 *   folder for `logs/NAME.log` and `parts/NAME.json`; it has both folders
 * @returns {Promise<PartEnd>}
 */
export async function runPart({ name, out, limitMs, command, signal }) {
  const logFile = path.join(out, 'logs', `${name}.log`);
  const resultFile = path.join(out, 'parts', `${name}.json`);
  const log = createWriteStream(logFile);
  const startedAt = performance.now();
  const child = spawn(command.program, command.args, {
    env: { ...command.env, RESULT_FILE: resultFile },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  let isOutOfTime = false;
  /** @type {NodeJS.Timeout | undefined} */
  let lastResort;
  const stop = () => {
    endGroup(child.pid, 'SIGTERM');
    lastResort ??= setTimeout(() => endGroup(child.pid, 'SIGKILL'), STOP_MS);
  };
  const timer = setTimeout(() => {
    isOutOfTime = true;
    stop();
  }, limitMs);
  signal?.addEventListener('abort', stop);
  /** @type {{ code: number | null, how: string }} */
  const { code, how } = await new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, how: `could not be started: ${error.message}` }));
    child.once('exit', (code, ended) =>
      resolve({ code, how: ended ? `was ended by ${ended}` : `exited with ${code}` }),
    );
  });
  clearTimeout(timer);
  clearTimeout(lastResort);
  signal?.removeEventListener('abort', stop);
  // What it started must not run on beside the next part.
  endGroup(child.pid, 'SIGKILL');
  await new Promise((resolve) => log.end(resolve));
  return {
    ending: isOutOfTime
      ? 'out of time'
      : code === 0
        ? 'done'
        : code === 1 || code === NO_GPU_EXIT_CODE
          ? 'failed'
          : 'crashed',
    how,
    seconds: (performance.now() - startedAt) / 1000,
    result: await readFile(resultFile, 'utf8').then(JSON.parse, () => null),
    log: await readFile(logFile, 'utf8'),
  };
}

/** @param {number | undefined} leader @param {NodeJS.Signals} signal */
function endGroup(leader, signal) {
  if (leader === undefined) return;
  try {
    process.kill(-leader, signal);
  } catch {
    // ESRCH: no process is left.
  }
}

/**
 * The findings of a part's process so far, for the report. Written after each figure, since the next step may crash.
 *
 * @param {{ lines: string[], [figure: string]: unknown }} result `lines`: Markdown for the report
 */
export function writePartResult(result) {
  const file = process.env.RESULT_FILE;
  if (file === undefined) throw new Error('RESULT_FILE must name the file for the result');
  writeFileSync(`${file}.partial`, `${JSON.stringify(result, null, 2)}\n`);
  renameSync(`${file}.partial`, file);
}

const PRELOAD = pathToFileURL(path.join(import.meta.dirname ?? '', 'count-launches.mjs')).href;

/**
 * An environment whose Node processes count the kernels that they launch into a folder.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string} folder
 * @returns {NodeJS.ProcessEnv}
 */
export function countingLaunches(env, folder) {
  const { NODE_OPTIONS: options = '' } = env;
  return { ...env, LAUNCHES_DIR: folder, NODE_OPTIONS: `${options} --import=${PRELOAD}`.trim() };
}

/**
 * @param {string} folder with a file for each process
 * @returns {Promise<Record<string, number>>} launches of all processes, by kernel
 */
export async function readLaunches(folder) {
  /** @type {Record<string, number>} */
  const launches = {};
  const files = await readdir(folder, { recursive: true }).catch(() => /** @type {string[]} */ ([]));
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    const counts = JSON.parse(await readFile(path.join(folder, file), 'utf8'));
    for (const [name, count] of Object.entries(counts)) launches[name] = (launches[name] ?? 0) + count;
  }
  return launches;
}

/**
 * @param {readonly { name: string }[]} kernels all that the engine has
 * @param {Record<string, number>} launches
 * @returns {string[]} the names of those without a launch
 */
export function neverLaunched(kernels, launches) {
  return [...new Set(kernels.map(({ name }) => name))].filter((name) => !launches[name]).sort();
}
