import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { PRODUCT_VERSION } from '../../../packages/service-kit/dist/index.js';
import { cudaInstallation } from '../../../packages/tensor/dist/cuda-installation.js';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { NVRTC_WHEELS } from '../../../scripts/setup/pinned-wheels.mjs';

const run = promisify(execFile);
const SHOWN_DIGITS = 12;

/**
 * The product, its commit, its kernels and their compiler, for the head of a report.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Record<string, string>>}
 */
export async function identityOf(env) {
  const installation = cudaInstallation(env.CUDA_KERNEL_DIR);
  const nvrtc = NVRTC_WHEELS[process.arch];
  return {
    version: `${PRODUCT_VERSION}, ${await commitOf(ROOT_DIR)}`,
    kernels:
      installation === null
        ? 'not compiled'
        : `sha256 ${installation.digest.slice(0, SHOWN_DIGITS)}… with the addon, for ${installation.architectures.join(', ')}`,
    compiler: `NVRTC ${nvrtc?.version} of CUDA ${nvrtc?.version.split('.').slice(0, 2).join('.')}`,
  };
}

/**
 * The commit of a working tree, and whether it has changes.
 *
 * @param {string} folder
 */
async function commitOf(folder) {
  const git = (/** @type {string[]} */ ...args) => run('git', ['-C', folder, ...args]);
  try {
    // A package may have been unpacked within the clone of something else.
    const { stdout: top } = await git('rev-parse', '--show-prefix');
    if (top.trim() !== '') return NO_COMMIT;
    const { stdout: commit } = await git('rev-parse', 'HEAD');
    const { stdout: changes } = await git('status', '--porcelain', '--untracked-files=no');
    return `commit ${commit.trim()}${changes.trim() === '' ? '' : ' with changes'}`;
  } catch {
    return NO_COMMIT;
  }
}

const NO_COMMIT = 'a package without git: its commit is not known';
