// npm run node-versions: runs `npm run demo` in a fresh clone of the last commit with each supported Node, and prints a table.
// The Nodes come from npm; npm itself is the machine's. --only 24 runs that one alone, --test runs `npm test` after the demo,
// --other-user does both as a user who is not root, with an empty home and so without any cache.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { AS_OTHER_USER, giveAway, makeHome, NODE_RELEASES, nodeFolder } from './hunt/conditions.mjs';

const TAIL_LINES = 30;
const { env } = process;

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    test: { type: 'boolean', default: false },
    'other-user': { type: 'boolean', default: false },
  },
});
const COMMANDS = [['run', 'demo'], ...(flags.test ? [['test']] : [])];

await runAsCommand(async () => {
  const signal = interruption();
  const wanted = NODE_RELEASES.filter((version) => flags.only?.includes(version.split('.')[0] ?? '') ?? true);
  if (wanted.length === 0)
    throw new SetupError(`there is no Node ${flags.only} here`, `these are: ${NODE_RELEASES.join(', ')}.`);
  /** @type {Row[]} */
  const rows = [];
  for (const version of wanted) {
    signal.throwIfAborted();
    for (const row of await rowsOf(version, signal)) {
      console.log(`Node ${version}, ${row.command}: ${row.passed ? 'passed' : 'FAILED'} after ${row.seconds} s`);
      rows.push(row);
    }
  }
  console.log('\n| Node | command | passed | seconds | result | warnings |\n| --- | --- | --- | ---: | --- | ---: |');
  for (const { version, command, passed, seconds, result, warnings } of rows)
    console.log(`| ${version} | ${command} | ${passed ? 'yes' : 'NO'} | ${seconds} | ${result} | ${warnings.length} |`);
  for (const { version, command, warnings } of rows)
    for (const warning of new Set(warnings)) console.log(`Node ${version}, ${command}: ${warning}`);
  return rows.every(({ passed }) => passed) ? 0 : 1;
});

/**
 * @typedef {object} Row
 * @property {string} version of Node
 * @property {string} command
 * @property {boolean} passed
 * @property {number} seconds
 * @property {string} result a line of the output
 * @property {string[]} warnings of Node
 */

/**
 * Runs the commands in a fresh clone with that Node alone: nothing that npm set for this process applies there.
 *
 * @param {string} version @param {AbortSignal} signal
 * @returns {Promise<Row[]>}
 */
async function rowsOf(version, signal) {
  const folder = await mkdtemp(path.join(tmpdir(), `lorasmith-node-${version}-`));
  try {
    // A copy, because another user need not be allowed to look into the cache of this one.
    const binaries = path.join(folder, 'bin');
    await cp(await nodeFolder(version, env), binaries, { recursive: true });
    const clone = path.join(folder, 'lorasmith');
    await runCommand('git', ['clone', '--quiet', ROOT_DIR, clone]);
    const user = flags['other-user'] ? await otherUser(folder) : { prefix: [], env: {} };
    const ownEnvironment = Object.entries(env).filter(([name]) => !/^(npm_|NODE$|NODE_OPTIONS$|INIT_CWD$)/.test(name));
    const settings = { ...Object.fromEntries(ownEnvironment), ...user.env, PATH: `${binaries}:${env.PATH}` };
    /** @type {Row[]} */
    const rows = [];
    for (const args of COMMANDS) {
      const startedAt = performance.now();
      const file = path.join(folder, `output-${args.at(-1)}`);
      const { code, output } = await run([...user.prefix, 'npm', ...args], { cwd: clone, env: settings, file }, signal);
      const lines = stripVTControlCharacters(output).split('\n');
      // The first step of set-up names the Node that runs it.
      const passed = code === 0 && output.includes(`Node ${version},`);
      if (!passed) console.log(lines.slice(-TAIL_LINES).join('\n'));
      const result = lines.findLast((line) => /^(Exactly right| *Tests )/.test(line))?.trim() ?? `exit code ${code}`;
      const written = [...lines, ...(await serviceOutput(path.join(clone, 'data/logs')))];
      const warnings = written
        .filter((line) => /Warning: /.test(line))
        .map((line) => line.replace(/^\(node:\d+\) /, ''));
      const seconds = Math.round((performance.now() - startedAt) / 1000);
      rows.push({ version, command: `npm ${args.join(' ')}`, passed, seconds, result, warnings });
    }
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Gives the folder to another user, with a home in it. @param {string} folder */
async function otherUser(folder) {
  const variables = await makeHome(folder);
  await giveAway(folder);
  return { prefix: AS_OTHER_USER, env: variables };
}

/**
 * @param {string[]} command
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, file: string }} options `file`: receives the output
 * @param {AbortSignal} signal
 */
async function run([program = '', ...args], { cwd, env, file }, signal) {
  const output = await open(file, 'w');
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', output.fd, output.fd], detached: true });
  const stop = () => child.kill('SIGTERM');
  signal.addEventListener('abort', stop);
  try {
    const [code] = await once(child, 'close');
    return { code, output: await readFile(file, 'utf8') };
  } finally {
    signal.removeEventListener('abort', stop);
    await output.close();
  }
}

/** The output of api, registry and worker. @param {string} folder @returns {Promise<string[]>} lines */
async function serviceOutput(folder) {
  const names = await readdir(folder).catch(() => []);
  const texts = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  return texts.flatMap((text) => text.split('\n'));
}
