// npm run test:all [-- --only NAME… | --skip NAME…] [--resume] [--list]: runs everything that proves the product, one part after the
// other, and writes a table with times. It takes hours. --resume leaves out the parts that have passed at this commit.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { git } from '../../scripts/setup/run-command.mjs';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { ALL_PARTS, partsTable } from './test-run/all-parts.mjs';

const OUT_DIR = path.join(ROOT_DIR, '.cache/test-all');
const STATE_FILE = path.join(OUT_DIR, 'state.json');
/** Lines of its output that are shown of a part that failed. */
const SHOWN_LINES = 30;

/** @typedef {import('./test-run/all-parts.mjs').PartResult} PartResult */

await runAsCommand(async () => {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      skip: { type: 'string', multiple: true, default: [] },
      resume: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  if (values.list) {
    for (const { name, command } of ALL_PARTS) console.log(`${name.padEnd(14)} ${command.join(' ')}`);
    return 0;
  }
  const names = ALL_PARTS.map(({ name }) => name);
  const only = values.only?.flatMap((list) => list.split(','));
  const skip = values.skip.flatMap((list) => list.split(','));
  const unknown = [...(only ?? []), ...skip].filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new SetupError(`no such part: ${unknown.join(', ')}`, `use ${names.join(', ')}.`);

  await mkdir(OUT_DIR, { recursive: true });
  const commit = await commitOfTree();
  const results = values.resume ? await readState(commit) : {};
  const signal = interruption();
  for (const part of ALL_PARTS) {
    if (only ? !only.includes(part.name) : skip.includes(part.name)) continue;
    if (results[part.name]?.ending === 'passed') {
      console.log(`${part.name}: has passed`);
      continue;
    }
    console.log(`${part.name}: ${part.command.join(' ')}`);
    const result = await runPart(part, signal);
    if (signal.aborted) {
      console.log('Interrupted. `npm run test:all -- --resume` continues.');
      break;
    }
    results[part.name] = result;
    await writeState(commit, results);
    console.log(`${part.name}: ${result.ending} in ${result.seconds} s`);
  }
  const table = partsTable(results);
  await writeFile(path.join(OUT_DIR, 'table.md'), table);
  console.log(`\n${table}\nAlso in ${path.join(OUT_DIR, 'table.md')}`);
  return signal.aborted || Object.values(results).some(({ ending }) => ending === 'failed') ? 1 : 0;
});

/**
 * @param {import('./test-run/all-parts.mjs').Part} part
 * @param {AbortSignal} signal
 * @returns {Promise<PartResult>}
 */
async function runPart({ name, command: [program = '', ...args], noAnswer }, signal) {
  const logFile = path.join(OUT_DIR, `${name}.log`);
  const log = createWriteStream(logFile);
  const startedAt = Date.now();
  // In a group of its own, which an interruption ends as a whole.
  const child = spawn(program, args, { cwd: ROOT_DIR, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const end = () => process.kill(-(child.pid ?? 0), 'SIGTERM');
  signal.addEventListener('abort', end, { once: true });
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (/** @type {Buffer} */ chunk) => {
      log.write(chunk);
      tail = (tail + chunk.toString()).slice(-20_000);
    });
  }
  const [code] = await once(child, 'close');
  signal.removeEventListener('abort', end);
  log.end();
  const lines = tail.trimEnd().split('\n');
  if (code !== 0) console.log(`${lines.slice(-SHOWN_LINES).join('\n')}\nAll of it is in ${logFile}`);
  const seconds = Math.round((Date.now() - startedAt) / 1000);
  const ending = code === 0 ? 'passed' : code === noAnswer ? 'no answer' : 'failed';
  return { ending, seconds, lastLine: lines.at(-1) ?? '' };
}

/** The commit, and whether files differ from it: results of another tree say nothing of this one. @returns {Promise<string>} */
async function commitOfTree() {
  try {
    const changes = (await git('status', '--porcelain')) + (await git('diff', 'HEAD'));
    return `${await git('rev-parse', 'HEAD')} ${createHash('sha256').update(changes).digest('hex')}`;
  } catch {
    return 'without git';
  }
}

/** @param {string} commit @returns {Promise<Record<string, PartResult>>} of the last run, if it was of the same commit */
async function readState(commit) {
  if (!existsSync(STATE_FILE)) return {};
  const state = JSON.parse(await readFile(STATE_FILE, 'utf8'));
  if (state.commit === commit) return state.results;
  console.log('The last run was of other sources, so every part runs again.');
  return {};
}

/** @param {string} commit @param {Record<string, PartResult>} results */
async function writeState(commit, results) {
  await writeFile(`${STATE_FILE}.new`, JSON.stringify({ commit, results }, null, 2));
  await rename(`${STATE_FILE}.new`, STATE_FILE);
}
