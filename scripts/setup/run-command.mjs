import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { ROOT_DIR } from './locations.mjs';
import { SetupError } from './run-steps.mjs';

/** Maximum output shown of a failed command: enough for a compiler error, without flooding a terminal. */
const OUTPUT_TAIL_BYTES = 6_000;

/** The interval at which a silent command is reported as still running. */
const TICK_MS = 1_000;

/**
 * @typedef {object} CommandOptions
 * @property {string} [cwd]
 * @property {NodeJS.ProcessEnv} [env] the whole environment of the command; default: this process's
 * @property {(elapsedSeconds: number) => void} [onTick] called every second while the command runs
 * @property {boolean} [passThrough] lets the command write to the terminal instead of capturing its output
 * @property {string} [remedy] what to do when the command fails
 */

/**
 * Runs a command until it finishes. It is ended with this process, so that an interrupted set-up leaves no compiler or
 * download running.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 * @returns {Promise<string>} the last {@link OUTPUT_TAIL_BYTES} of its standard output and standard error
 * @throws {SetupError} when it cannot be started or exits with anything but 0
 */
export function runCommand(command, args, options = {}) {
  const {
    onTick,
    passThrough = false,
    remedy = 'read the output above, remove its cause, and run the same command again.',
  } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: passThrough ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe'],
    });
    const startedAt = Date.now();
    const ticks = setInterval(() => onTick?.(Math.round((Date.now() - startedAt) / 1000)), TICK_MS);
    const stopWatching = endWithThisProcess(child);
    let tail = '';
    const keep = (/** @type {Buffer} */ chunk) => {
      tail = (tail + chunk.toString()).slice(-OUTPUT_TAIL_BYTES);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    const settle = () => {
      clearInterval(ticks);
      stopWatching();
    };
    child.once('error', (cause) => {
      settle();
      reject(new SetupError(`${command} could not be started: ${cause.message}`, remedy, { cause }));
    });
    child.once('close', (code, signal) => {
      settle();
      if (code === 0) return resolve(tail);
      const how = signal ? `was ended by ${signal}` : `exited with ${code}`;
      reject(new SetupError(`\`${[command, ...args].join(' ')}\` ${how}`, remedy, { output: tail }));
    });
  });
}

/** @param {import('node:child_process').ChildProcess} child @returns {() => void} stops watching */
function endWithThisProcess(child) {
  const end = () => child.kill('SIGTERM');
  const endAndLeave = (/** @type {NodeJS.Signals} */ signal) => {
    end();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('exit', end);
  process.once('SIGINT', endAndLeave);
  process.once('SIGTERM', endAndLeave);
  return () => {
    process.off('exit', end);
    process.off('SIGINT', endAndLeave);
    process.off('SIGTERM', endAndLeave);
  };
}

/** The most output of a command: a change of fixtures has megabytes. */
const MAX_OUTPUT_BYTES = 2 ** 30;

/**
 * Runs git in the repository, or in another folder with `-C`.
 *
 * @param {string[]} args
 * @returns {Promise<string>} its output, trimmed
 * @throws {Error} when it fails, as in a copy without git
 */
export async function git(...args) {
  const { stdout } = await promisify(execFile)('git', args, { cwd: ROOT_DIR, maxBuffer: MAX_OUTPUT_BYTES });
  return stdout.trim();
}
