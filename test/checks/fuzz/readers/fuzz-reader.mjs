// Fuzzes one reader in its own process: node fuzz-reader.mjs READER SECONDS SEED CORPUS FINDS
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { register } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CoverageMap } from './coverage-map.mjs';
import { mutate, randomFrom } from './mutate.mjs';

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
