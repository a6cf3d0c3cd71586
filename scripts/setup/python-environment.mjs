import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from './run-command.mjs';

/**
 * Installs Python packages into an environment of their own in the cache, once.
 *
 * @param {{ cache: string, name: string, requirements: string }} options `name`: what it is for; `requirements`: a file that
 *   pins every package
 * @returns {Promise<string>} the folder with its programs
 * @throws {import('./run-steps.mjs').SetupError}
 */
export async function pythonEnvironment({ cache, name, requirements }) {
  const digest = createHash('sha256')
    .update(await readFile(requirements))
    .digest('hex')
    .slice(0, 12);
  const folder = path.join(cache, `${name}-${digest}`);
  const programs = path.join(folder, 'bin');
  const python = path.join(programs, 'python');
  // A virtual environment cannot be moved. It is created in place, and its mark is written last.
  const mark = path.join(folder, 'installed');
  if (existsSync(mark)) return programs;
  console.log(`Installing Python packages for ${name} (once)`);
  await runCommand('python3', ['-m', 'venv', '--clear', folder]);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', requirements];
  await runCommand(python, pip);
  await runCommand(python, ['-c', `open(${JSON.stringify(mark)}, 'x').close()`]);
  return programs;
}
