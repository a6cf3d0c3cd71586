// Checks that JSON that programs write has no more lines than with an entry a line; with --write, formats it so.
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { compactJsonText } from '../../scripts/docs/compact-json.mjs';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';

/** Fixtures, and what biome.json leaves out of its own format. */
const WRITTEN = ['*fixtures/*.json', 'openapi/*.json', 'docker/*.json', 'test/emulated/*.json'];

/**
 * The files with more lines, each of which it replaces if asked to.
 *
 * @param {{ write: boolean }} options
 * @returns {Promise<string[]>} relative to the root
 */
async function longerFiles({ write }) {
  const { stdout } = await promisify(execFile)('git', ['ls-files', '-z', '--', ...WRITTEN], { cwd: ROOT_DIR });
  /** @type {string[]} */
  const found = [];
  for (const name of stdout.split('\0').filter(Boolean)) {
    const file = path.join(ROOT_DIR, name);
    const text = await readFile(file, 'utf8');
    const formatted = `${compactJsonText(text)}\n`;
    if (linesOf(formatted) >= linesOf(text)) continue;
    found.push(name);
    if (write) await writeFile(file, formatted);
  }
  return found;
}

/** @param {string} text */
function linesOf(text) {
  return text.trimEnd().split('\n').length;
}

const write = process.argv.includes('--write');
const found = await longerFiles({ write });
for (const name of found) {
  console.log(`${write ? 'formatted' : 'longer than in the format of `npm run format`'}: ${name}`);
}
if (!write && found.length > 0) process.exitCode = 1;
