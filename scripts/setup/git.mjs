import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ROOT_DIR } from './locations.mjs';

/** The most output of a command: a change of fixtures has megabytes. */
const MAX_OUTPUT_BYTES = 2 ** 30;

/**
 * Runs git in the repository, or in another folder with `-C`.
 *
 * @param {string[]} args
 * @returns {Promise<string>} its output, trimmed
 * @throws {Error} when it fails, as in a copy without git
 */
export async function git(...args) {
  const { stdout } = await promisify(execFile)('git', args, { cwd: ROOT_DIR, maxBuffer: MAX_OUTPUT_BYTES });
  return stdout.trim();
}
