import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { ROOT_DIR } from '../setup/locations.mjs';

const FENCE = /^```sh\n([\s\S]*?)^```$/gm;

/**
 * The commands of docs/operations.md under a text, as they stand there.
 *
 * @param {string} after what stands before them
 * @returns {Promise<string>}
 * @throws {Error} when there are none
 */
export async function documentedCommands(after) {
  const page = await readFile(path.join(ROOT_DIR, 'docs/operations.md'), 'utf8');
  const from = page.indexOf(after);
  const [block] = from === -1 ? [] : page.slice(from).matchAll(FENCE);
  if (block?.[1] === undefined) throw new Error(`docs/operations.md has no commands after ${JSON.stringify(after)}`);
  return block[1];
}

/**
 * Runs commands as whoever follows the page would, in a folder of their own; the first that fails ends them.
 *
 * @param {string} commands
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, signal: AbortSignal }} options
 * @returns {Promise<string>} what they wrote
 */
export async function runCommands(commands, options) {
  const script = `set -o errexit -o pipefail\n${commands}`;
  const { stdout } = await promisify(execFile)('bash', ['-c', script], { ...options, maxBuffer: 2 ** 26 });
  return stdout;
}
