import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * A new API key that may train.
 *
 * @param {{ root: string, dataDir: string }} stack the checkout, and the data folder of its stack
 * @param {string} name
 * @returns {Promise<{ id: import('../../../packages/contracts/dist/index.js').KeyId, token: string }>}
 */
export async function createBenchKey({ root, dataDir }, name) {
  const create = ['create', '--name', name, '--role', 'train', '--json'];
  const env = { ...process.env, DATA_DIR: dataDir };
  const { stdout } = await run(process.execPath, [path.join(root, 'scripts/keys.mjs'), ...create], { env });
  return JSON.parse(stdout.slice(stdout.indexOf('{\n')));
}
