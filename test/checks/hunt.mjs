// npm run hunt -- [--condition NAME[+NAME…]]… [--runs N] [--out FOLDER] [FILES…]: runs the tests, or those of chosen files, N times in
// each condition or combination of them, and writes a table of what failed. --list shows the conditions. Runs of an earlier hunt in
// FOLDER stay in its table.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { SetupError } from '../../scripts/setup/run-steps.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { CONDITIONS, conditionOf } from './hunt/conditions.mjs';

/**
 * @typedef {object} Run
 * @property {string} condition
 * @property {string} note
 * @property {number} tests that ran
 * @property {number} seconds
 * @property {Failure[]} failures
 *
 * @typedef {object} Failure
 * @property {string} file relative to the repository
 * @property {string} test its full name; empty if the file could not be loaded, or the whole run failed
 * @property {string} message the first line
 */

/**
 * The failures in vitest's JSON report.
 *
 * @param {any} report
 * @param {string} root the repository's folder
 * @returns {Failure[]}
 */
function failuresOf(report, root) {
  return report.testResults.flatMap((/** @type {any} */ { name, status, message, assertionResults }) => {
    const file = path.relative(root, name);
    const failed = assertionResults.filter((/** @type {any} */ test) => test.status === 'failed');
    if (status === 'failed' && failed.length === 0) return [{ file, test: '', message: firstLine(message) }];
    return failed.map((/** @type {any} */ { ancestorTitles, title, failureMessages }) => ({
      file,
      test: [...ancestorTitles, title].join(' › '),
      message: firstLine(failureMessages?.[0] ?? ''),
    }));
  });
}

/** @param {string} text */
const firstLine = (text) => text.split('\n', 1)[0] ?? '';

/**
 * A table in Markdown: one line for each condition, one for each of its failing tests.
 *
 * @param {Run[]} runs
 * @returns {string}
 */
function huntTable(runs) {
  const lines = ['| Condition | Runs | Green | Failures: file › test |', '| --- | ---: | ---: | --- |'];
  for (const condition of new Set(runs.map((run) => run.condition))) {
    const own = runs.filter((run) => run.condition === condition);
    /** @type {Map<string, number>} */
    const times = new Map();
    for (const { failures } of own) {
      for (const { file, test } of failures) {
        const name = `\`${file}\`${test === '' ? '' : ` › ${test.replaceAll('|', '\\|')}`}`;
        times.set(name, (times.get(name) ?? 0) + 1);
      }
    }
    const listed = [...times].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} × ${name}`);
    const green = own.filter(({ failures }) => failures.length === 0).length;
    lines.push(`| ${condition} | ${own.length} | ${green} | ${listed.join('<br>') || 'none'} |`);
  }
  return `${lines.join('\n')}\n`;
}

await runAsCommand(async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      condition: { type: 'string', multiple: true, default: Object.keys(CONDITIONS) },
      runs: { type: 'string', default: '1' },
      out: { type: 'string', default: path.join(ROOT_DIR, '.cache/hunt') },
      list: { type: 'boolean', default: false },
    },
  });
  if (values.list) {
    for (const [name, { what }] of Object.entries(CONDITIONS)) console.log(`${name.padEnd(18)} ${what}`);
    return 0;
  }
  const unknown = values.condition.flatMap((names) => names.split('+')).filter((name) => !(name in CONDITIONS));
  if (unknown.length > 0) throw new SetupError(`no such condition: ${unknown}`, 'see `npm run hunt -- --list`.');

  const { modelsDir } = await setUp({ browser: true });
  await mkdir(values.out, { recursive: true });
  const recordFile = path.join(values.out, 'runs.json');
  /** @type {Run[]} */
  const runs = existsSync(recordFile) ? JSON.parse(await readFile(recordFile, 'utf8')) : [];
  const before = runs.length;
  for (let round = 1; round <= Number(values.runs); round++) {
    for (const name of values.condition) {
      const condition = conditionOf(name);
      const hindrance = condition.hindrance?.() ?? null;
      if (hindrance !== null) {
        if (round === 1) console.log(`${name}: not tried, ${hindrance}`);
        continue;
      }
      const logFile = path.join(values.out, `${name}-${runs.length + 1}.log`);
      const run = await runOnce(name, condition, positionals, { modelsDir, logFile });
      runs.push(run);
      await writeFile(recordFile, JSON.stringify(runs, null, 2));
      await writeFile(path.join(values.out, 'table.md'), huntTable(runs));
      const outcome = run.failures.length === 0 ? 'green' : `${run.failures.length} FAILED (${logFile})`;
      console.log(`${name} ${run.note}: ${run.tests} tests in ${run.seconds} s, ${outcome}`);
      for (const { file, test, message } of run.failures) console.log(`  ${file} › ${test}: ${message}`);
    }
  }
  console.log(`\n${huntTable(runs)}`);
  return runs.slice(before).some(({ failures }) => failures.length > 0) ? 1 : 0;
});

/**
 * @param {string} name of the condition
 * @param {import('./hunt/conditions.mjs').Condition} condition
 * @param {string[]} files
 * @param {{ modelsDir: string, logFile: string }} options
 * @returns {Promise<Run>}
 */
async function runOnce(name, condition, files, { modelsDir, logFile }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-hunt-'));
  const setting = await condition.begin(folder);
  const { prefix = [], env = {}, root = ROOT_DIR, node = process.execPath, note = '', end } = setting;
  try {
    const report = path.join(root, '.cache', `hunt-${process.pid}.json`);
    await rm(report, { force: true });
    const vitest = path.join(root, 'node_modules/vitest/vitest.mjs');
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const [command = '', ...rest] = [...prefix, node, vitest, 'run', ...reporters, ...files];
    const log = createWriteStream(logFile);
    const startedAt = Date.now();
    const child = spawn(command, rest, {
      cwd: root,
      env: { ...process.env, MODELS_DIR: modelsDir, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const [code] = await once(child, 'close');
    log.end();
    const seconds = Math.round((Date.now() - startedAt) / 1000);
    if (!existsSync(report)) {
      const failure = { file: 'vitest', test: '', message: `ended with ${code} and without a report: ${logFile}` };
      return { condition: name, note, tests: 0, seconds, failures: [failure] };
    }
    const results = JSON.parse(await readFile(report, 'utf8'));
    const failures = failuresOf(results, root);
    if (code !== 0 && failures.length === 0)
      failures.push({ file: 'vitest', test: '', message: `ended with ${code}: ${logFile}` });
    await rm(report);
    return { condition: name, note, tests: results.numTotalTests, seconds, failures };
  } finally {
    await end?.();
    await rm(folder, { recursive: true, force: true });
  }
}
