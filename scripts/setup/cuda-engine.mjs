import { existsSync } from 'node:fs';
import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir } from './locations.mjs';
import { BUILD_DIR, compileNative, NATIVE_DIR, NODE_HEADERS, nativeSources, placeFiles } from './native-build.mjs';
import { CUBLAS_WHEEL, librariesOf, NVRTC_WHEELS } from './pinned-wheels.mjs';
import { describeFailure, SetupError } from './run-steps.mjs';
import { findTensorflowLibrary } from './tensorflow-library.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

const KEY_FILE = '.cuda-engine-key';

/** Flags of the compiler, for every file. */
export const FLAGS = ['-std=c++17', '-I.', '-Wall', '-Wno-unknown-pragmas', '-fPIC', '-pthread', '-fvisibility=hidden'];

/** The path from native/build/cuda.node to the TensorFlow that tfjs's addon loads, so that this addon can be loaded before it. */
const TENSORFLOW_FOLDER = '$ORIGIN/../../node_modules/@tensorflow/tfjs-node-gpu/deps/lib';
/** The path from native/build/cuda.node to the libraries of {@link installCublas}. */
const CUBLAS_FOLDER = '$ORIGIN/cuda/lib';

/**
 * Compiles the CUDA engine's addon, and for tests the emulated libraries of NVIDIA, into native/build. The kernels
 * for GPUs are a step of their own (cuda-kernels.mjs).
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, emulated: boolean }} options
 * @returns {Promise<string>} one line for the report
 * @throws {SetupError} when it does not compile
 */
export async function installCudaEngine(library, { cache, env, progress, emulated }) {
  const targets = [await addon(library), ...(emulated ? await emulatedLibraries() : [])];
  const { files, keys, compiled } = await compileNative(targets, { identity: library.identity, cache, env, progress });
  const key = JSON.stringify(keys);
  const placed = await placeFiles({ files, key, keyFile: `${KEY_FILE}${emulated ? '-emulated' : ''}` });
  return compiled > 0 ? `${compiled} files compiled` : placed ? 'taken from the cache' : 'in place';
}

/** @param {import('./tensorflow-library.mjs').TensorflowLibrary} library @returns {Promise<import('./native-build.mjs').Target>} */
async function addon(library) {
  return {
    file: 'cuda.node',
    sources: await nativeSources('host'),
    flags: [...FLAGS, '-O2', `-I${library.includeDir}`, `-I${NODE_HEADERS}`],
    libraries: [library.cApiFile, library.frameworkFile, `-Wl,-rpath,${TENSORFLOW_FOLDER}:${CUBLAS_FOLDER}`, '-ldl'],
  };
}

/** Flags for the kernels in the emulated driver. */
export const EMULATION_FLAGS = [...FLAGS, '-O2'];

/** @returns {Promise<import('./native-build.mjs').Target[]>} */
async function emulatedLibraries() {
  const cuda = {
    file: 'emulated/libcuda.so.1',
    sources: ['cuda/emulation/driver.cc', ...(await nativeSources('kernels'))],
    flags: EMULATION_FLAGS,
    libraries: ['-Wl,-soname,libcuda.so.1'],
  };
  const cublas = {
    file: 'emulated/libcublasLt.so.12',
    sources: ['cuda/emulation/cublas_lt.cc'],
    flags: [...FLAGS, '-O3'],
    libraries: ['-Wl,-soname,libcublasLt.so.12'],
  };
  return [cuda, cublas].filter(({ sources }) => sources.every((source) => existsSync(path.join(NATIVE_DIR, source))));
}

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

// node scripts/setup/cuda-engine.mjs: compiles the addon and the emulated libraries.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { env } = process;
    const progress = { update: (/** @type {string} */ text) => console.error(text) };
    const cache = cacheDir(env);
    const { library } = await findTensorflowLibrary({ cache, env, progress });
    console.log(await installCudaEngine(library, { cache, env, progress, emulated: true }));
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
