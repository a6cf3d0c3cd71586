// Checks the format of the C++ in packages/*/native; with --write, formats it.
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir, ROOT_DIR } from '../scripts/setup/locations.mjs';
import { CLANG_FORMAT_WHEELS } from '../scripts/setup/pinned-wheels.mjs';
import { runCommand } from '../scripts/setup/run-command.mjs';
import { describeFailure } from '../scripts/setup/run-steps.mjs';
import { SetupError } from '../scripts/setup/setup-error.mjs';
import { unpackWheel } from '../scripts/setup/unpack-wheel.mjs';

/**
 * @param {{ write: boolean, env: NodeJS.ProcessEnv }} options
 * @returns {Promise<boolean>} whether all files are formatted; if not, the reason has been printed
 */
export async function formatNative({ write, env }) {
  try {
    const wheel = CLANG_FORMAT_WHEELS[process.arch];
    if (!wheel) {
      throw new SetupError(`there is no pinned clang-format for ${process.arch}`, 'use a machine with x64 or arm64.');
    }
    const { folder } = await unpackWheel(wheel, { cache: cacheDir(env), env, progress: { update: console.log } });
    const program = path.join(folder, /** @type {string} */ (wheel.members[0]));
    await runCommand(program, [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...(await sources())], {
      cwd: ROOT_DIR,
      env,
      remedy: 'run `npm run format`.',
    });
    return true;
  } catch (error) {
    console.error(describeFailure(error));
    return false;
  }
}

/** @returns {Promise<string[]>} of C++ and CUDA C++, relative to the root */
async function sources() {
  const found = [];
  for (const folder of ['packages/tensor/native', 'packages/weight-io/native']) {
    const names = await readdir(path.join(ROOT_DIR, folder), { recursive: true });
    const ours = names.filter((name) => /\.(cc|h|cu|cuh)$/.test(name) && !name.startsWith('build'));
    found.push(...ours.sort().map((name) => `${folder}/${name}`));
  }
  return found;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const formatted = await formatNative({ write: process.argv.includes('--write'), env: process.env });
  process.exitCode = formatted ? 0 : 1;
}
