// Fuzzes one reader in its own process: node fuzz-reader.mjs READER SECONDS SEED CORPUS FINDS

import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { register } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** The bucket of a hit count: 1, 2, 3, 4 to 7, 8 to 15, …, as in AFL. @param {number} runs */
const bucketOf = (runs) => (runs < 4 ? runs : 2 + Math.floor(Math.log2(runs)));

/** The locations of the instrumented modules that any input has reached, and how often. */
class CoverageMap {
  /** @type {Map<Counters, Uint8Array>} for each array of counters, the buckets seen so far, as bits */
  #seen = new Map();
  #locations = 0;

  get locations() {
    return this.#locations;
  }

  /** Sets every counter to 0. */
  begin() {
    for (const counters of allCounters()) counters.fill(0);
  }

  /** @returns {boolean} whether the input reached a new location, or a known one in a new bucket of hit counts */
  end() {
    let isNew = false;
    for (const counters of allCounters()) {
      let seen = this.#seen.get(counters);
      if (seen === undefined) {
        seen = new Uint8Array(counters.length);
        this.#seen.set(counters, seen);
      }
      for (let i = 0; i < counters.length; i++) {
        const runs = counters[i] ?? 0;
        if (runs === 0) continue;
        const bit = 1 << Math.min(bucketOf(runs) - 1, 7);
        if ((seen[i] ?? 0) & bit) continue;
        if (seen[i] === 0) this.#locations++;
        seen[i] = (seen[i] ?? 0) | bit;
        isNew = true;
      }
    }
    return isNew;
  }
}

/** @type {{ files: number, counters: Counters[] }} */
const cached = { files: 0, counters: [] };

/** @typedef {{ fill(value: number): void, length: number, [location: number]: number | undefined }} Counters */

/** @returns {Counters[]} */
function allCounters() {
  const coverage = /** @type {Record<string, { s: object, b: Record<string, number[]> }>} */ (
    /** @type {any} */ (globalThis).__coverage__ ?? {}
  );
  const files = Object.values(coverage);
  if (files.length !== cached.files) {
    cached.files = files.length;
    cached.counters = files.flatMap(({ s, b }) => [/** @type {Counters} */ (countersOf(s)), ...Object.values(b)]);
  }
  return cached.counters;
}

/** The counts of statements are an object with numbers as keys. @param {object} counts */
function countersOf(counts) {
  const keys = Object.keys(counts);
  return Object.assign(counts, {
    length: keys.length,
    fill: (/** @type {number} */ value) => {
      for (const key of keys) /** @type {any} */ (counts)[key] = value;
    },
  });
}

/** Boundary values that often break readers. */
const INTERESTING = [
  0,
  1,
  7,
  8,
  16,
  32,
  64,
  100,
  127,
  128,
  255,
  256,
  512,
  1024,
  32767,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
];

/**
 * @typedef {(below: number) => number} Random
 *
 * @param {number} seed
 * @returns {Random} integers from 0 (mulberry32)
 */
function randomFrom(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/**
 * Mutates a copy of an input: changes bytes or numbers, or inserts words of the format or a part of another input.
 *
 * @param {Buffer} input
 * @param {{ random: Random, words: Buffer[], others: Buffer[], maxBytes: number }} options
 * @returns {Buffer}
 */
function mutate(input, { random, words, others, maxBytes }) {
  /** @type {Buffer} */
  let bytes = Buffer.from(input);
  for (let times = 1 + random(random(3) === 0 ? 16 : 3); times > 0; times--) {
    const at = random(bytes.length + 1);
    const length = Math.min(1 + random(random(4) === 0 ? 256 : 8), bytes.length - at);
    switch (random(9)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random(256);
        break;
      case 2:
        bytes = writeNumber(bytes, at, INTERESTING[random(INTERESTING.length)] ?? 0, random);
        break;
      case 3:
        if (at < bytes.length) bytes[at] = ((bytes[at] ?? 0) + random(35) - 17) & 0xff;
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]);
        break;
      case 6:
      case 7: {
        const word = words[random(words.length)] ?? Buffer.alloc(0);
        const replaced = random(2) === 0 ? word.length : 0;
        bytes = Buffer.concat([bytes.subarray(0, at), word, bytes.subarray(at + replaced)]);
        break;
      }
      default: {
        const other = others[random(others.length)] ?? bytes;
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random(other.length + 1))]);
      }
    }
  }
  return bytes.subarray(0, maxBytes);
}

/** @param {Buffer} bytes @param {number} at @param {number} value @param {Random} random */
function writeNumber(bytes, at, value, random) {
  const width = [1, 2, 4, 8][random(4)] ?? 1;
  if (at + width > bytes.length) return bytes;
  const number = random(4) === 0 ? 2n ** BigInt(8 * width) - 1n - BigInt(random(8)) : BigInt(value);
  for (let i = 0; i < width; i++) bytes[at + i] = Number((number >> BigInt(8 * i)) & 0xffn);
  return bytes;
}

register('./instrument-hooks.mjs', import.meta.url);

/** Above the largest seeds, models of several matrices. */
const MAX_INPUT_BYTES = 65_536;
/** Maximum number of inputs derived from the seeds. The oldest are dropped. */
const MAX_INPUTS = 4_000;
/** A slower input counts as a finding. Generous, because the machine may be busy. */
const SLOW_MS = 5_000;

const [reader = '', seconds = '', seed = '', corpusFolder = '', findsFolder = ''] = process.argv.slice(2);
const { TARGETS } = await import('./targets.mjs');
const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-fuzz-'));
const target = await /** @type {NonNullable<typeof TARGETS[string]>} */ (TARGETS[reader])(folder);
const map = new CoverageMap();
const random = randomFrom(Number(seed));
const words = target.words.map((word) => Buffer.from(word, 'latin1'));

/** @type {Buffer[]} */
const inputs = [];
let [runs, refused, finds] = [0, 0, 0];

/** @param {Buffer} input */
async function tryInput(input) {
  runs++;
  map.begin();
  await target.start?.();
  const begin = performance.now();
  let fault = '';
  try {
    await target.read(input);
  } catch (error) {
    if (target.isRefusal(error)) refused++;
    else fault = error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const ms = performance.now() - begin;
  if (fault === '' && ms > SLOW_MS && !target.mayBeSlow) fault = `it took ${Math.round(ms)} ms`;
  if (fault !== '') await storeFinding(input, fault);
  return map.end();
}

/** @type {Set<string>} one finding of each kind is stored */
const kinds = new Set();

/** @param {Buffer} input @param {string} fault */
async function storeFinding(input, fault) {
  const kind = fault.split('\n', 2).join(' ').replaceAll(/\d+/g, '#');
  if (kinds.has(kind)) return;
  kinds.add(kind);
  finds++;
  const name = `${reader}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`;
  await mkdir(findsFolder, { recursive: true });
  await writeFile(path.join(findsFolder, name), input);
  console.log(`\n${reader}: a finding, stored as ${path.join(findsFolder, name)}\n${fault}`);
}

for (const name of (await readdir(corpusFolder)).sort()) {
  const input = await readFile(path.join(corpusFolder, name));
  await tryInput(input);
  inputs.push(input);
}
// Without them every mutation is blind: instrument-hooks.mjs then does not name the folder of the reader.
if (map.locations === 0) throw new Error(`${reader}: no module of it is instrumented`);
const seeds = inputs.length;
const deadline = Date.now() + Number(seconds) * 1_000;
while (Date.now() < deadline) {
  // Half of the time one of the newest, which have been tried least.
  const newest = inputs.length > 64 && random(2) === 0;
  const index = newest ? inputs.length - 1 - random(64) : random(inputs.length);
  const mutated = mutate(inputs[index] ?? Buffer.alloc(0), {
    random,
    words,
    others: inputs,
    maxBytes: MAX_INPUT_BYTES,
  });
  const input = random(4) > 0 && target.repair ? target.repair(mutated) : mutated;
  if (await tryInput(input)) {
    inputs.push(input);
    if (inputs.length > MAX_INPUTS) inputs.splice(seeds, 1);
  }
}
target.close?.();
await rm(folder, { recursive: true, force: true });
console.log(
  `${reader}: ${runs} inputs in ${seconds} s, ${refused} refused, ${map.locations} locations reached, ${inputs.length - seeds} inputs stored beside ${seeds} seeds, ${finds} findings`,
);
process.exitCode = finds > 0 ? 1 : 0;
