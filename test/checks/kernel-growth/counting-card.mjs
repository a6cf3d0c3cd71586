import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { EMULATION_FLAGS, FLAGS } from '../../../scripts/setup/cuda-engine.mjs';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { BUILD_DIR, compileNative, nativeSources } from '../../../scripts/setup/native-build.mjs';
import { findTensorflowLibrary } from '../../../scripts/setup/tensorflow-library.mjs';

/** Flags without vectors or unrolled loops, so that each round of a loop is a basic block. */
const COUNTING_FLAGS = [...FLAGS, '-O1', '-fsanitize-coverage=trace-pc'];

/**
 * Compiles an emulated driver whose kernels count their work, and puts it beside the emulated cuBLASLt.
 *
 * @param {string} folder for both
 * @param {NodeJS.ProcessEnv} env
 * @throws {import('../../../scripts/setup/run-steps.mjs').SetupError} when it does not compile
 */
export async function placeCountingCard(folder, env) {
  const progress = { update: () => {} };
  const cache = cacheDir(env);
  const { library } = await findTensorflowLibrary({ cache, env, progress });
  const own = ['cuda/emulation/driver.cc', 'cuda/emulation/work.cc'];
  const target = {
    file: 'libcuda.so.1',
    sources: [...own, ...(await nativeSources('kernels'))],
    flags: COUNTING_FLAGS,
    flagsOf: Object.fromEntries(own.map((source) => [source, EMULATION_FLAGS])),
    libraries: ['-Wl,-soname,libcuda.so.1'],
  };
  const { files } = await compileNative([target], { identity: library.identity, cache, env, progress });
  await mkdir(folder, { recursive: true });
  await symlink(/** @type {string} */ (files[target.file]), path.join(folder, 'libcuda.so.1'));
  await symlink(path.join(BUILD_DIR, 'emulated/libcublasLt.so.12'), path.join(folder, 'libcublasLt.so.12'));
}
