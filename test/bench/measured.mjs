import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { promisify } from 'node:util';
import { trainerEnvironment } from '../../services/worker/dist/trainer/trainer-program.js';
import { model, options, ROOT } from './options.mjs';
import { doing } from './progress.mjs';

const run = promisify(execFile);

/** @param {string} text */
export function say(text) {
  process.stdout.write(`${text}\n`);
}

/**
 * Measures one part in its own process, with the environment of a trainer.
 *
 * @param {string} part
 * @param {object} task
 * @param {string} root the checkout that is measured
 * @returns {Promise<any>}
 */
export async function measured(part, task, root = ROOT) {
  doing(`measuring ${part} ${JSON.stringify(task)}`.slice(0, 150));
  const child = fork(path.join(root, 'test/bench/measure.mjs'), [], {
    env: trainerEnvironment(process.env),
    serialization: 'advanced',
  });
  child.send({ part, options: { model, ...task } });
  return await childAnswer(child, `the part ${part}`);
}

/** @param {string} script @param {string[]} parameters */
export async function peer(script, parameters) {
  doing(`${script} ${parameters.join(' ')}`.slice(0, 150));
  const python = /** @type {string} */ (options['peer-python']);
  const { stdout } = await run(python, [path.join(ROOT, 'bench', script), ...parameters], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}

/**
 * The next message of a child process. It leaves no listener behind, so a child may be asked any number of times.
 *
 * @param {import('node:child_process').ChildProcess} child
 * @param {string} name what the child is, for the error
 * @returns {Promise<any>}
 * @throws {Error} when the child ends first
 */
export async function childAnswer(child, name) {
  const end = new AbortController();
  const { signal } = end;
  try {
    const exited = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`${name} ended with exit code ${code}`);
    });
    const [answer] = await Promise.race([once(child, 'message', { signal }), exited]);
    return answer;
  } finally {
    end.abort();
  }
}

/**
 * Percentiles of times, in their unit.
 *
 * @typedef {{ count: number, p50: number, p99: number, worst: number }} Latency
 */

/** @param {number[]} times @returns {Latency} */
export function latencyOf(times) {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (/** @type {number} */ share) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), worst: sorted.at(-1) ?? 0 };
}
