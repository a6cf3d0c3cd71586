// npm run check: format, lint, types and the format of C++, all at the same time, and then the tests of the repository itself: documents,
// docstrings, dependencies, compose files, release, chart, set-up, and these checks' own.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { OF_THE_REPOSITORY } from '../usual-files.mjs';
import { formatCheckOfNative } from './format.mjs';
import { runVitest } from './run-vitest.mjs';

/**
 * @typedef {object} Check
 * @property {string} name
 * @property {boolean} [isLong] left out by `npm test`, where people wait for it
 * @property {() => Promise<{ program: string, args: string[] }[]>} commands run one after the other, up to the first that fails
 */

/** A program of a Node package. @param {string} file below node_modules @param {string[]} args */
const inNode = (file, ...args) => ({
  program: process.execPath,
  args: [path.join(ROOT_DIR, 'node_modules', file), ...args],
});

/** A program of the repository. @param {string} file @param {string[]} args */
const inRoot = (file, ...args) => ({ program: process.execPath, args: [path.join(ROOT_DIR, file), ...args] });

/** The checks of the complete repository that need no test. @type {Check[]} */
const CHECKS = [
  { name: 'format and lint', commands: async () => [inNode('@biomejs/biome/bin/biome', 'check', '.')] },
  { name: 'lint with types', isLong: true, commands: async () => [inNode('oxlint/bin/oxlint', '--type-aware')] },
  { name: 'types', commands: async () => [inNode('typescript/bin/tsc', '--project', 'tsconfig.test.json')] },
  {
    // The page has other types than the rest. The example imports compiled packages.
    name: 'types of the page and the example',
    commands: async () => [
      inNode('typescript/bin/tsc', '--build'),
      inNode('typescript/bin/tsc', '--project', 'examples/from-scratch'),
    ],
  },
  { name: 'format of C++', commands: async () => [await formatCheckOfNative(process.env)] },
  { name: 'format of JSON', commands: async () => [inRoot('test/checks/format.mjs', 'json')] },
];

/**
 * Runs all checks at the same time. The output of one is printed when it ends.
 *
 * @param {{ withLong?: boolean, print?: (text: string) => void }} [options]
 * @returns {Promise<string[]>} the names of those that failed
 */
export async function runChecks({ withLong = true, print = console.log } = {}) {
  const results = await Promise.all(
    CHECKS.filter(({ isLong = false }) => withLong || !isLong).map(async ({ name, commands }) => {
      const startedAt = performance.now();
      const { passed, output } = await run(commands);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
      print(passed ? `Passed: ${name} (${seconds} s)` : `\nFAILED: ${name} (${seconds} s)\n${output.trim()}\n`);
      return passed ? [] : [name];
    }),
  );
  return results.flat();
}

/** @param {Check['commands']} commands @returns {Promise<{ passed: boolean, output: string }>} */
async function run(commands) {
  let output = '';
  try {
    for (const { program, args } of await commands()) {
      const child = spawn(program, args, { cwd: ROOT_DIR, stdio: ['ignore', 'pipe', 'pipe'] });
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text) => {
          output += text;
        });
      }
      const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
      if (code !== 0) return { passed: false, output };
    }
    return { passed: true, output };
  } catch (error) {
    return { passed: false, output: `${output}${error instanceof Error ? error.message : error}` };
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runAsCommand(async () => {
    const { modelsDir } = await setUp();
    const failed = await runChecks();
    const { passed } = await runVitest(OF_THE_REPOSITORY, { ...process.env, MODELS_DIR: modelsDir });
    if (!passed) failed.push('tests of the repository');
    if (failed.length > 0) console.log(`\nFailed: ${failed.join(', ')}. \`npm run format\` mends format.`);
    return failed.length > 0 ? 1 : 0;
  });
}
