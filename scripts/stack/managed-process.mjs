import { spawn } from 'node:child_process';
import { createWriteStream, fstatSync, mkdirSync, openSync, renameSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { SetupError } from '../setup/run-steps.mjs';

/** Number of lines kept in memory, to be shown when the process dies. */
const TAIL_LINES = 25;

/** The time to wait for the remaining output of a process that has ended. */
const LAST_WORDS_MS = 1_000;

/** Maximum length of a shown log line. */
const TAIL_LINE_CHARACTERS = 500;

/**
 * @typedef {object} ManagedProcess
 * @property {string} name
 * @property {number} pid
 * @property {Promise<string>} exited resolves, and never rejects, with how it ended, such as `exited with 1`
 * @property {boolean} running
 * @property {() => string} tail its last output lines
 * @property {(timeoutMs: number) => Promise<void>} stop sends SIGTERM, and after the timeout SIGKILL, also to its children
 */

/**
 * Starts a Node program as part of the stack. It leads its own process group, so that Ctrl-C in a terminal reaches only the
 * stack, which then stops its parts in order. It has an IPC channel, which closes when the stack ends for any reason.
 *
 * @param {{ name: string, program: string, args?: string[], env: NodeJS.ProcessEnv, logFile: string,
 *   onLine?: (line: string) => void, onMessage?: (message: unknown) => void }} options `program`: a JavaScript file; `onLine`:
 *   called with each output line; `onMessage`: with each message of its channel
 * @returns {ManagedProcess}
 */
export function startProcess({ name, program, args = [], env, logFile, onLine, onMessage }) {
  const log = new LogFile(logFile);
  const child = spawn(process.execPath, ['--enable-source-maps', program, ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  if (onMessage) child.on('message', onMessage);
  /** @type {string[]} */
  const tail = [];
  const keep = (/** @type {string} */ line) => {
    log.write(line);
    tail.push(line.slice(0, TAIL_LINE_CHARACTERS));
    if (tail.length > TAIL_LINES) tail.shift();
    onLine?.(line);
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', keep);
  }

  const started = {
    name,
    pid: child.pid ?? 0,
    running: true,
    tail: () => tail.join('\n'),
    exited: /** @type {Promise<string>} */ (
      new Promise((resolve) => {
        const end = (/** @type {string} */ how) => {
          started.running = false;
          log.end();
          resolve(how);
        };
        child.once('error', (error) => end(`could not be started: ${error.message}`));
        child.once('exit', (code, signal) => {
          const how = signal ? `was ended by ${signal}` : `exited with ${code}`;
          // Its last output may still be in the pipes. A grandchild that outlives it may keep them open for long.
          const timer = setTimeout(end, LAST_WORDS_MS, how);
          child.once('close', () => {
            clearTimeout(timer);
            end(how);
          });
        });
      })
    ),
    /** @param {number} timeoutMs */
    async stop(timeoutMs) {
      if (started.running) {
        child.kill('SIGTERM');
        const timer = setTimeout(killGroup, timeoutMs, started.pid);
        await started.exited;
        clearTimeout(timer);
      }
      // Children that are still running, such as a hung trainer.
      killGroup(started.pid);
    },
  };
  return started;
}

/** @param {number} pid the leader */
function killGroup(pid) {
  if (pid === 0) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: no process is left.
  }
}

const POLL_MS = 100;
const REQUEST_TIMEOUT_MS = 5_000;

/**
 * Waits until a part of the stack is ready.
 *
 * @param {() => Promise<boolean>} isReady
 * @param {{ process: ManagedProcess, timeoutMs: number, signal?: AbortSignal | undefined }} options
 * @throws {SetupError} with its last log lines, when the process ends first or the time is up; the reason of `signal` once
 *   that is aborted
 */
export async function waitUntil(isReady, { process: part, timeoutMs, signal }) {
  const deadline = Date.now() + timeoutMs;
  while (!(await isReady())) {
    signal?.throwIfAborted();
    if (!part.running) throw endedError(part, await part.exited);
    if (Date.now() > deadline) {
      throw new SetupError(
        `${part.name} was not ready within ${timeoutMs / 1000} s`,
        'see its last log lines above. On a very busy machine, try again.',
        { output: part.tail() },
      );
    }
    await sleep(POLL_MS);
  }
}

/**
 * @param {ManagedProcess} part
 * @param {string} how
 */
export function endedError(part, how) {
  return new SetupError(`${part.name} ${how}`, 'see its last log lines above.', { output: part.tail() });
}

/** @param {string} url @returns {Promise<boolean>} true if it answers with 200 */
export async function answersOk(url) {
  return (await readinessAt(url))?.length === 0;
}

/**
 * The state of a service, by its `/ready`.
 *
 * @param {string} url
 * @returns {Promise<string[] | undefined>} what is missing although it answers, such as space on a disk, which can be freed while
 *   it runs; undefined: it is not ready
 */
export async function readinessAt(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    if (response.status === 200) {
      await response.body?.cancel();
      return [];
    }
    const { error } = /** @type {{ error: { details: { code: string, message: string }[] } }} */ (
      await response.json()
    );
    const faults = error.details;
    if (faults.length === 0 || faults.some(({ code }) => code !== 'storage_full')) return undefined;
    return faults.map(({ message }) => message);
  } catch {
    return undefined;
  }
}

/** The size at which a log file is renamed to `.1`, in place of the one before: a part has at most two of them. */
const LOG_FILE_BYTES = 20_000_000;

/** The most that waits for the disk. Further lines are dropped, so that a slow disk does not fill the memory. */
const MAX_WAITING_BYTES = 4_000_000;

/** A longer line is cut: the output of a program that writes no end of line. */
const LONGEST_LINE = 50_000;

/** A full disk is tried again after this time. */
const RETRY_MS = 1_000;

/**
 * The log file of a part of the stack, which stays within a size while it is written. A disk that takes nothing stops neither
 * the stack nor the part: lines are dropped until it does.
 */
export class LogFile {
  #file;
  #maxBytes;
  #size = 0;
  #failedAt = Number.NEGATIVE_INFINITY;
  #hasEnded = false;
  /** @type {import('node:fs').WriteStream | undefined} */
  #stream;

  /**
   * @param {string} file
   * @param {number} [maxBytes]
   */
  constructor(file, maxBytes = LOG_FILE_BYTES) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#open();
  }

  /** @param {string} line without its end */
  write(line) {
    if (this.#hasEnded) return;
    if (this.#size > this.#maxBytes) this.#rotate();
    if (!this.#stream && performance.now() - this.#failedAt > RETRY_MS) this.#open();
    if (!this.#stream || this.#stream.writableLength > MAX_WAITING_BYTES) return;
    const text = `${line.slice(0, LONGEST_LINE)}\n`;
    this.#size += Buffer.byteLength(text);
    this.#stream.write(text);
  }

  end() {
    this.#hasEnded = true;
    this.#stream?.end();
  }

  /** Renames the file. Lines that still wait for the disk go into it, because the old stream has it open. */
  #rotate() {
    this.#stream?.end();
    this.#stream = undefined;
    try {
      renameSync(this.#file, `${this.#file}.1`);
      this.#open();
    } catch {
      // Rather the newest lines than none.
      this.#open('w');
    }
  }

  /** @param {'a' | 'w'} [flags] `w`: what is in the file is dropped */
  #open(flags = 'a') {
    try {
      mkdirSync(path.dirname(this.#file), { recursive: true });
      const fd = openSync(this.#file, flags, 0o600);
      this.#size = fstatSync(fd).size;
      const stream = createWriteStream(this.#file, { fd });
      stream.on('error', () => {
        if (this.#stream === stream) this.#stream = undefined;
        this.#failedAt = performance.now();
      });
      this.#stream = stream;
    } catch {
      this.#failedAt = performance.now();
    }
  }
}
