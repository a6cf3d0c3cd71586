import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';
import { runCommand } from '../setup/run-command.mjs';

const REQUIREMENTS = path.join(ROOT_DIR, 'scripts/fuzz/requirements.txt');

/**
 * Installs Schemathesis, an API fuzzer, into its own Python environment in the cache, once.
 *
 * @param {string} cache
 * @returns {Promise<string>} its program
 * @throws {import('../setup/setup-error.mjs').SetupError}
 */
export async function schemathesisProgram(cache) {
  const digest = createHash('sha256')
    .update(await readFile(REQUIREMENTS))
    .digest('hex')
    .slice(0, 12);
  const folder = path.join(cache, `schemathesis-${digest}`);
  const python = path.join(folder, 'bin/python');
  // A virtual environment cannot be moved. It is created in place, and its mark is written last.
  const mark = path.join(folder, 'installed');
  if (existsSync(mark)) return path.join(folder, 'bin/schemathesis');
  console.log('Installing Schemathesis (once)');
  await runCommand('python3', ['-m', 'venv', '--clear', folder]);
  await runCommand(python, [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--requirement',
    REQUIREMENTS,
  ]);
  await runCommand(python, ['-c', `open(${JSON.stringify(mark)}, 'x').close()`]);
  return path.join(folder, 'bin/schemathesis');
}
