// npm run node-versions: runs `npm run demo` in a fresh clone of the last commit with each supported Node, and prints a table.
// The Nodes come from npm; npm itself is the machine's. --only 24 runs that one alone.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../scripts/setup/locations.mjs';
import { runCommand } from '../scripts/setup/run-command.mjs';
import { SetupError } from '../scripts/setup/setup-error.mjs';
import { runAsCommand } from '../scripts/setup.mjs';
import { interruption } from '../scripts/stack/interruption.mjs';
import { NODE_RELEASES, nodeFolder } from './test-run/node-binaries.mjs';

const TAIL_LINES = 30;
const { env } = process;

const { values: flags } = parseArgs({ options: { only: { type: 'string', multiple: true } } });

await runAsCommand(async () => {
  const signal = interruption();
  const wanted = NODE_RELEASES.filter((version) => flags.only?.includes(version.split('.')[0] ?? '') ?? true);
  if (wanted.length === 0)
    throw new SetupError(`there is no Node ${flags.only} here`, `these are: ${NODE_RELEASES.join(', ')}.`);
  const rows = [];
  for (const version of wanted) {
    signal.throwIfAborted();
    const row = await demoOn(version, signal);
    console.log(`Node ${version}: ${row.passed ? 'passed' : 'FAILED'} after ${row.seconds} s`);
    rows.push(row);
  }
  console.log('\n| Node | demo | seconds | result | warnings |\n| --- | --- | ---: | --- | ---: |');
  for (const { version, passed, seconds, result, warnings } of rows)
    console.log(`| ${version} | ${passed ? 'passed' : 'FAILED'} | ${seconds} | ${result} | ${warnings.length} |`);
  for (const { version, warnings } of rows)
    for (const warning of new Set(warnings)) console.log(`Node ${version}: ${warning}`);
  return rows.every(({ passed }) => passed) ? 0 : 1;
});

/** @param {string} version @param {AbortSignal} signal */
async function demoOn(version, signal) {
  const binaries = await nodeFolder(version, env);
  const folder = await mkdtemp(path.join(tmpdir(), `lorasmith-node-${version}-`));
  const startedAt = performance.now();
  try {
    const clone = path.join(folder, 'lorasmith');
    await runCommand('git', ['clone', '--quiet', ROOT_DIR, clone]);
    const { code, output } = await run(clone, binaries, path.join(folder, 'output'), signal);
    const lines = output.split('\n');
    // The first step of set-up names the Node that runs it.
    const passed = code === 0 && output.includes(`Node ${version},`);
    if (!passed) console.log(lines.slice(-TAIL_LINES).join('\n'));
    const result = lines.findLast((line) => line.startsWith('Exactly right')) ?? `exit code ${code}`;
    const written = [...lines, ...(await serviceOutput(path.join(clone, 'data/logs')))];
    const warnings = written.filter((line) => /Warning: /.test(line)).map((line) => line.replace(/^\(node:\d+\) /, ''));
    return { version, passed, seconds: Math.round((performance.now() - startedAt) / 1000), result, warnings };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Runs the demo with that Node alone: nothing that npm set for this process applies there.
 *
 * @param {string} clone @param {string} binaries @param {string} outputFile @param {AbortSignal} signal
 */
async function run(clone, binaries, outputFile, signal) {
  const file = await open(outputFile, 'w');
  const ownEnvironment = Object.entries(env).filter(([name]) => !/^(npm_|NODE$|NODE_OPTIONS$|INIT_CWD$)/.test(name));
  const child = spawn('npm', ['run', 'demo'], {
    cwd: clone,
    env: { ...Object.fromEntries(ownEnvironment), PATH: `${binaries}:${env.PATH}` },
    stdio: ['ignore', file.fd, file.fd],
    detached: true,
  });
  const stop = () => child.kill('SIGTERM');
  signal.addEventListener('abort', stop);
  try {
    const [code] = await once(child, 'close');
    return { code, output: await readFile(outputFile, 'utf8') };
  } finally {
    signal.removeEventListener('abort', stop);
    await file.close();
  }
}

/** The output of api, registry and worker. @param {string} folder @returns {Promise<string[]>} lines */
async function serviceOutput(folder) {
  const names = await readdir(folder).catch(() => []);
  const texts = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  return texts.flatMap((text) => text.split('\n'));
}
