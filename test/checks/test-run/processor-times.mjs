import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';

/**
 * Seconds of user time that a file of the usual run may take on a processor as fast as {@link REFERENCE_MS} says: its own process, and that with its
 * child processes. Beyond the first are only the flows of whole services.
 */
const LIMITS_S = { own: 20, withChildren: 60 };
const SHOWN = 10;
/** Milliseconds of {@link yardstick} on the machine for which the limit holds: an Intel Xeon of 2023 at 2 GHz. */
const REFERENCE_MS = 400;

/** @typedef {{ file: string, own: number, seconds: number }} FileTime `seconds`: of its own process and its child processes */

/** The times that test/processor-time.ts recorded. @param {string} record @returns {FileTime[]} the longest first */
export function readTimes(record) {
  if (!existsSync(record)) return [];
  const lines = readFileSync(record, 'utf8').trim().split('\n').filter(Boolean);
  const all = lines.map((line) => /** @type {{ file: string, own: number, ofChildren: number }} */ (JSON.parse(line)));
  return all
    .map(({ file, own, ofChildren }) => ({ file: path.relative(ROOT_DIR, file), own, seconds: own + ofChildren }))
    .sort((one, two) => two.seconds - one.seconds);
}

/** The table of the slowest files, and the sums by package or folder. @param {FileTime[]} times */
export function timesText(times) {
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
    ...times.slice(0, SHOWN).map(({ file, seconds }) => line(seconds, file)),
    'By package:',
    ...[...sums].sort(([, one], [, two]) => two - one).map(([room, seconds]) => line(seconds, room)),
    line(total, 'in all'),
  ].join('\n');
}

/** The files beyond a limit, which is larger on a slower machine. @param {FileTime[]} times @param {number} slowness @returns {string[]} */
export function tooLong(times, slowness) {
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

/** How many times slower than the reference this machine computes now; at least 1. */
export function slowness() {
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
