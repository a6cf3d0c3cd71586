import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { trainerEnvironment } from '../../services/worker/dist/trainer/trainer-program.js';

export const ROOT = path.resolve(import.meta.dirname ?? '.', '../..');

const readOptions = () =>
  parseArgs({
    options: {
      rows: { type: 'string', default: path.join(ROOT, 'examples/dates/train.jsonl') },
      count: { type: 'string', default: '64' },
      model: { type: 'string', default: path.join(ROOT, 'models/SmolLM2-135M-Instruct') },
      'peer-python': { type: 'string' },
      'large-model': { type: 'string' },
      before: { type: 'string' },
      shape: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      out: { type: 'string' },
    },
  });

/** The options of `npm run bench`, which test/bench/README.md explains. */
export const { values: options } = withoutStack(readOptions);

/** @template Result @param {() => Result} read @returns {Result} its result; a wrong option ends the process with one line */
function withoutStack(read) {
  try {
    return read();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}. test/bench/README.md lists the options.`);
    process.exit(2);
  }
}

/** The checkouts that are measured by turns: this one, and that of --before. @returns {{ before?: string, now: string }} */
export function checkouts() {
  return { ...(options.before === undefined ? {} : { before: path.resolve(options.before) }), now: ROOT };
}

export const { quick } = options;
/** The folder of the model that is measured. */
export const model = path.resolve(options.model);
/** Rows that are read. */
export const count = quick ? 16 : Number(options.count);
export const repeats = quick ? 2 : 4;

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
  const { stdout } = await run(python, [path.join(ROOT, 'test/bench', script), ...parameters], { maxBuffer: 2 ** 26 });
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

/** Seconds that each part took here the last time, by its name and arguments. */
const TIMES_FILE = path.join(ROOT, '.cache/bench-seconds.json');
const TICK_MS = 30_000;

let activity = '';

/** Says on standard error what is measured now. @param {string} text */
function doing(text) {
  activity = text;
}

/**
 * Runs the parts one after the other, and says on standard error which one runs, how long it took here the last time, and every half minute
 * what it measures.
 *
 * @param {string[]} names
 * @param {string} parameters what else the times depend on
 * @param {(name: string) => Promise<void>} run
 */
export async function withProgress(names, parameters, run) {
  const times = lastTimes();
  const keyOf = (/** @type {string} */ name) => `${name} ${parameters}`;
  const known = names.map((name) => times[keyOf(name)]);
  const sum = known.reduce((/** @type {number} */ all, seconds) => all + (seconds ?? 0), 0);
  const unknown = names.filter((_, index) => known[index] === undefined);
  const first = unknown.length === 0 ? '' : ` ${unknown.join(', ')} did not run here before.`;
  note(
    `${names.length === 1 ? 'One part' : `${names.length} parts`}.${sum > 0 ? ` The last time: ${spoken(sum)}.` : ''}${first}`,
  );
  for (const [index, name] of names.entries()) {
    const seconds = known[index];
    note(`[${index + 1}/${names.length}] ${name}${seconds === undefined ? '' : `: ${spoken(seconds)} the last time`}`);
    const began = performance.now();
    const passed = () => Math.round((performance.now() - began) / 1e3);
    doing('');
    const ticks = setInterval(() => note(`${name}: ${passed()} s${activity === '' ? '' : `, ${activity}`}`), TICK_MS);
    try {
      await run(name);
    } finally {
      clearInterval(ticks);
    }
    times[keyOf(name)] = passed();
    await mkdir(path.dirname(TIMES_FILE), { recursive: true });
    await writeFile(TIMES_FILE, JSON.stringify(times, null, 2));
  }
}

/** @returns {Record<string, number>} */
function lastTimes() {
  try {
    return JSON.parse(readFileSync(TIMES_FILE, 'utf8'));
  } catch {
    return {};
  }
}

/** @param {number} seconds */
function spoken(seconds) {
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/** @param {string} text */
function note(text) {
  process.stderr.write(`${text}\n`);
}
