import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';

const FENCE = /^```sh\n([\s\S]*?)^```$/gm;

/**
 * The first block of commands after a text in a page of the documentation.
 *
 * @param {string} after the text before the commands
 * @param {string} [name] the page
 * @returns {Promise<string>}
 * @throws {Error} when there are none
 */
export async function documentedCommands(after, name = 'docs/operations.md') {
  const page = await readFile(path.join(ROOT_DIR, name), 'utf8');
  const from = page.indexOf(after);
  const [block] = from === -1 ? [] : page.slice(from).matchAll(FENCE);
  if (block?.[1] === undefined) throw new Error(`${name} has no commands after ${JSON.stringify(after)}`);
  return block[1];
}

/**
 * Runs commands in bash, in the given folder. The first failure stops them.
 *
 * @param {string} commands
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, signal: AbortSignal }} options
 * @returns {Promise<string>} their standard output
 */
export async function runCommands(commands, options) {
  const script = `set -o errexit -o pipefail\n${commands}`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { ...options, maxBuffer: 2 ** 26 });
  return stdout;
}
