import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT } from './options.mjs';

/** Seconds that each part took here the last time, by its name and arguments. */
const TIMES_FILE = path.join(ROOT, '.cache/bench-seconds.json');
const TICK_MS = 30_000;

let activity = '';

/** Says on standard error what is measured now. @param {string} text */
export function doing(text) {
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
