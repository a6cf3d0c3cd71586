// npm run test:all [-- --only NAME… | --skip NAME…] [--resume] [--list]: runs everything that proves the product, one part after the
// other, and writes a table with times. It takes hours. --resume leaves out the parts that have passed at this commit.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { git } from '../../scripts/setup/run-command.mjs';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';

/**
 * @typedef {object} Part
 * @property {string} name
 * @property {string[]} command
 * @property {number} [noAnswer] the exit code that says that a service elsewhere did not answer: nothing is proven, and nothing is wrong
 *
 * @typedef {object} PartResult
 * @property {'passed' | 'failed' | 'no answer'} ending
 * @property {number} seconds
 * @property {string} lastLine of its output
 */

const npm = (/** @type {string[]} */ ...args) => ['npm', '--silent', ...args];

/** Everything that proves the product: short parts first. @type {Part[]} */
const ALL_PARTS = [
  { name: 'check', command: npm('run', 'check') },
  { name: 'audit', command: npm('run', 'audit'), noAnswer: 2 },
  { name: 'example', command: npm('run', 'example') },
  { name: 'demo', command: npm('run', 'demo') },
  { name: 'pack-client', command: npm('run', 'pack-client') },
  { name: 'test', command: npm('test') },
  { name: 'published', command: ['env', 'PUBLISHED=1', ...npm('test', '--', 'test/published.test.ts')] },
  {
    name: 'rewards-example',
    command: [
      ...['env', 'REWARDS_EXAMPLE=1'],
      ...npm('test', '--', 'packages/training/src/objectives/group-relative/group-example.test.ts'),
    ],
  },
  { name: 'faults', command: npm('run', 'test:faults') },
  { name: 'faults-nf4', command: ['env', 'BASE_QUANTIZATION=nf4', ...npm('run', 'test:faults')] },
  { name: 'emulated', command: npm('run', 'test:emulated') },
  {
    name: 'self-test-table',
    command: ['env', 'FULL_TABLE=1', ...npm('run', 'test:emulated', '--', 'test/emulated/full-table.test.ts')],
  },
  { name: 's3', command: npm('run', 'test:s3') },
  { name: 'fuzz-api', command: npm('run', 'fuzz:api', '--', '--minutes', '10') },
  { name: 'fuzz-readers', command: npm('run', 'fuzz:readers', '--', '--seconds', '60') },
  { name: 'soak', command: npm('run', 'soak', '--', '--jobs', '60') },
  { name: 'check-loaders', command: npm('run', 'check-loaders') },
  { name: 'check-cookbook', command: npm('run', 'check-cookbook') },
  { name: 'check-ollama', command: npm('run', 'check-ollama') },
  { name: 'check-deliveries', command: npm('run', 'check-deliveries') },
  { name: 'compose-smoke', command: npm('run', 'compose-smoke') },
  { name: 's3-smoke', command: npm('run', 's3-smoke') },
  { name: 'upgrade-check', command: npm('run', 'upgrade-check') },
  { name: 'helm-chart', command: npm('run', 'helm-chart') },
  { name: 'node-versions', command: npm('run', 'node-versions') },
];

/** @param {Record<string, PartResult>} results by part @returns {string} a table in Markdown */
function partsTable(results) {
  const lines = ['| Part | Result | Time | Last line |', '| --- | --- | ---: | --- |'];
  for (const { name } of ALL_PARTS) {
    const result = results[name];
    if (!result) lines.push(`| ${name} | not run | | |`);
    else lines.push(`| ${name} | ${result.ending} | ${timeOf(result.seconds)} | ${plain(result.lastLine)} |`);
  }
  return `${lines.join('\n')}\n`;
}

/** @param {number} seconds */
const timeOf = (seconds) => `${Math.floor(seconds / 60)} min ${seconds % 60} s`;

/** @param {string} line without colours, and short enough for a table */
const plain = (line) => stripVTControlCharacters(line).replaceAll('|', '\\|').slice(0, 100);

const OUT_DIR = path.join(ROOT_DIR, '.cache/test-all');
const STATE_FILE = path.join(OUT_DIR, 'state.json');
/** Lines of its output that are shown of a part that failed. */
const SHOWN_LINES = 30;

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
 * @param {Part} part
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
