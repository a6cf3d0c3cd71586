import { stripVTControlCharacters } from 'node:util';

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
export const ALL_PARTS = [
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
  { name: 'compose-smoke', command: npm('run', 'compose-smoke') },
  { name: 's3-smoke', command: npm('run', 's3-smoke') },
  { name: 'upgrade-check', command: npm('run', 'upgrade-check') },
  { name: 'helm-chart', command: npm('run', 'helm-chart') },
  { name: 'node-versions', command: npm('run', 'node-versions') },
];

/** @param {Record<string, PartResult>} results by part @returns {string} a table in Markdown */
export function partsTable(results) {
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
