import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { BUILD_DIR } from './native-build.mjs';
import { CUBLAS_WHEEL, librariesOf, NVRTC_WHEELS } from './pinned-wheels.mjs';
import { SetupError } from './setup-error.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/** The folder with cuBLASLt and NVRTC for an engine that runs outside a container. */
const LIBRARY_DIR = path.join(BUILD_DIR, 'cuda/lib');

/**
 * Fetches cuBLASLt, which the CUDA engine opens on a machine with a GPU, and NVRTC, which cuBLASLt looks for in its own folder.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<{ folder: string, origin: string }>} the folder with `libcublasLt.so.12`, and a line for the report
 * @throws {SetupError}
 */
export async function installCublas({ cache, env, progress }) {
  const nvrtc = NVRTC_WHEELS[process.arch];
  if (process.arch !== 'x64' || nvrtc === undefined) {
    throw new SetupError(`there is no pinned cuBLAS for ${process.arch}`, 'use a machine with x64.');
  }
  const { folder, fresh } = await unpackWheel(CUBLAS_WHEEL, { cache, env, progress });
  await linkLibraries(CUBLAS_WHEEL, folder);
  await linkLibraries(nvrtc, (await unpackWheel(nvrtc, { cache, env, progress })).folder);
  const { project, version } = CUBLAS_WHEEL;
  return { folder: LIBRARY_DIR, origin: `${project} ${version} ${fresh ? 'downloaded' : 'in the cache'}` };
}

/**
 * Makes links in {@link LIBRARY_DIR}: cuBLASLt has 750 MB.
 *
 * @param {import('./pinned-wheels.mjs').Wheel} wheel @param {string} folder with its members
 */
async function linkLibraries(wheel, folder) {
  await mkdir(LIBRARY_DIR, { recursive: true });
  for (const member of librariesOf(wheel)) {
    const file = path.join(LIBRARY_DIR, path.basename(member));
    await rm(`${file}.new`, { force: true });
    await symlink(path.join(folder, member), `${file}.new`);
    await rename(`${file}.new`, file);
  }
}
