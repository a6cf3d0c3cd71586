import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { LogFile } from './log-file.mjs';

/** Number of lines kept in memory, to be shown when the process dies. */
const TAIL_LINES = 25;

/** How long to wait for the remaining output of a process that has ended. */
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
