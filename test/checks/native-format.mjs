// Checks the format of the C++ in packages/*/native; with --write, formats it.
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { CLANG_FORMAT_WHEELS } from '../../scripts/setup/pinned-wheels.mjs';
import { runCommand } from '../../scripts/setup/run-command.mjs';
import { describeFailure, SetupError } from '../../scripts/setup/run-steps.mjs';
import { unpackWheel } from '../../scripts/setup/unpack-wheel.mjs';

/**
 * The command that checks the format of all C++ and CUDA C++.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<{ program: string, args: string[] }>}
 * @throws {SetupError}
 */
export async function formatCheckOfNative(env) {
  const wheel = CLANG_FORMAT_WHEELS[process.arch];
  if (!wheel) {
    throw new SetupError(`there is no pinned clang-format for ${process.arch}`, 'use a machine with x64 or arm64.');
  }
  const { folder } = await unpackWheel(wheel, { cache: cacheDir(env), env, progress: { update() {} } });
  const program = path.join(folder, /** @type {string} */ (wheel.members[0]));
  return { program, args: ['--dry-run', '--Werror', ...(await sources())] };
}

/** @returns {Promise<string[]>} of C++ and CUDA C++, relative to the root */
async function sources() {
  const found = [];
  for (const folder of ['packages/tensor/native', 'packages/weight-files/native']) {
    const names = await readdir(path.join(ROOT_DIR, folder), { recursive: true });
    const ours = names.filter((name) => /\.(cc|h|cu|cuh)$/.test(name) && !name.startsWith('build'));
    found.push(...ours.sort().map((name) => `${folder}/${name}`));
  }
  return found;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { program, args } = await formatCheckOfNative(process.env);
    const formatting = process.argv.includes('--write') ? ['-i', ...args.slice(2)] : args;
    await runCommand(program, formatting, { cwd: ROOT_DIR, remedy: 'run `npm run format`.' });
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
