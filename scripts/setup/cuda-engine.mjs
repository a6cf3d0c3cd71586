import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cacheDir, ROOT_DIR } from './locations.mjs';
import { NATIVE_DIR, placeFiles } from './native-build.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { describeFailure } from './run-steps.mjs';
import { findTensorflowLibrary } from './tensorflow-library.mjs';

const CUDA_DIR = path.join(NATIVE_DIR, 'cuda');
const KEY_FILE = '.cuda-engine-key';

const FLAGS = ['-std=c++17', '-Wall', '-Wno-unknown-pragmas', '-fPIC', '-pthread', '-fvisibility=hidden'];

/** From native/build/cuda.node to the TensorFlow that tfjs's addon loads, so that this addon can be loaded before it. */
const TENSORFLOW_FOLDER = '$ORIGIN/../../node_modules/@tensorflow/tfjs-node-gpu/deps/lib';

/**
 * A library or addon and how it is made.
 *
 * @typedef {object} Target
 * @property {string} file in native/build
 * @property {string[]} sources relative to native/cuda
 * @property {string[]} headers folders, relative to native/cuda, whose headers the sources may include
 * @property {string[]} flags of the compiler
 * @property {string[]} libraries flags of the linker
 */

/**
 * Compiles the CUDA engine's addon, and for tests the emulated libraries of NVIDIA, into native/build. Each source is compiled
 * once for its content and its headers. The kernels for GPUs are a step of their own (cuda-kernels.mjs).
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, emulated: boolean }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup-error.mjs').SetupError} when it does not compile
 */
export async function installCudaEngine(library, { cache, env, progress, emulated }) {
  const targets = [await addon(library), ...(emulated ? await emulatedLibraries() : [])];
  const work = { cache, env, progress };
  let compiled = 0;
  /** @type {Record<string, string>} */
  const files = {};
  const keys = [];
  for (const target of targets) {
    const { file, key, fresh } = await build(target, { ...work, identity: library.identity });
    files[target.file] = file;
    keys.push(`${target.file} ${key}`);
    compiled += fresh;
  }
  const placed = await placeFiles({
    files,
    key: keys.join('\n'),
    keyFile: `${KEY_FILE}${emulated ? '-emulated' : ''}`,
  });
  return compiled > 0 ? `${compiled} files compiled` : placed ? 'taken from the cache' : 'in place';
}

/** @param {import('./tensorflow-library.mjs').TensorflowLibrary} library @returns {Promise<Target>} */
async function addon(library) {
  const nodeHeaders = path.join(ROOT_DIR, 'node_modules/node-api-headers/include');
  return {
    file: 'cuda.node',
    sources: await sourcesIn('host', '.cc'),
    headers: ['host', '..'],
    flags: [...FLAGS, '-O2', `-I${NATIVE_DIR}`, `-I${library.includeDir}`, `-I${nodeHeaders}`],
    libraries: [library.cApiFile, library.frameworkFile, `-Wl,-rpath,${TENSORFLOW_FOLDER}`, '-ldl'],
  };
}

/** @returns {Promise<Target[]>} */
async function emulatedLibraries() {
  const headers = ['emulation', 'kernels'];
  const cuda = {
    file: 'emulated/libcuda.so.1',
    sources: ['emulation/driver.cc', ...(await sourcesIn('kernels', '.cu'))],
    headers,
    flags: [...FLAGS, '-O2'],
    libraries: ['-Wl,-soname,libcuda.so.1'],
  };
  const cublas = {
    file: 'emulated/libcublasLt.so.12',
    sources: ['emulation/cublas_lt.cc'],
    headers,
    flags: [...FLAGS, '-O3'],
    libraries: ['-Wl,-soname,libcublasLt.so.12'],
  };
  return [cuda, cublas].filter(({ sources }) => sources.every((source) => existsSync(path.join(CUDA_DIR, source))));
}

/** @param {string} folder @param {string} extension */
async function sourcesIn(folder, extension) {
  const names = await readdir(path.join(CUDA_DIR, folder));
  return names
    .filter((name) => name.endsWith(extension))
    .sort()
    .map((name) => `${folder}/${name}`);
}

/**
 * @param {Target} target
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, identity: string }} options
 * @returns {Promise<{ file: string, key: string, fresh: number }>} `fresh`: how many sources had to be compiled
 */
async function build(target, { cache, env, progress, identity }) {
  const shared = createHash('sha256').update(JSON.stringify([target.flags, identity, process.arch]));
  for (const folder of target.headers) await hashHeaders(path.join(CUDA_DIR, folder), shared);
  const common = shared.digest('hex');
  const objects = await Promise.all(
    target.sources.map(async (source) => {
      const text = await readFile(path.join(CUDA_DIR, source));
      const key = shortHash(common, source, text);
      return { source, key, folder: path.join(cache, 'cuda-objects', `${path.basename(source)}-${key}`) };
    }),
  );
  let fresh = 0;
  const missing = objects.filter(({ folder }) => !existsSync(folder));
  const compileNext = async () => {
    for (let next = missing.shift(); next !== undefined; next = missing.shift()) {
      const { source, folder } = next;
      progress.update(`compiling ${source}`);
      const compiled = await publishFolder(folder, (partial) => compile(target, source, { folder: partial, env }));
      if (compiled) fresh += 1;
    }
  };
  // All have ended before a failure is reported, so that none writes into the cache after it.
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, compileNext));
  for (const result of results) if (result.status === 'rejected') throw result.reason;

  const key = shortHash(JSON.stringify(target.libraries), ...objects.map((object) => object.key));
  const name = path.basename(target.file);
  const linked = path.join(cache, 'addons', `${name}-${key}`);
  await publishFolder(linked, async (partial) => {
    const files = objects.map(({ folder }) => path.join(folder, 'object.o'));
    await runCommand(env.CXX || 'g++', ['-shared', ...files, ...target.libraries, '-o', path.join(partial, name)], {
      env,
      remedy: 'see the linker errors above.',
    });
  });
  return { file: path.join(linked, name), key, fresh };
}

/**
 * @param {Target} target
 * @param {string} source
 * @param {{ folder: string, env: NodeJS.ProcessEnv }} options
 */
async function compile(target, source, { folder, env }) {
  await runCommand(
    env.CXX || 'g++',
    [...target.flags, '-x', 'c++', '-c', source, '-o', path.join(folder, 'object.o')],
    { cwd: CUDA_DIR, env, remedy: 'see the compiler errors above. A C++17 compiler is required: g++ 11 or later.' },
  );
}

/** @param {string} folder @param {import('node:crypto').Hash} hash */
async function hashHeaders(folder, hash) {
  for (const name of (await readdir(folder)).sort()) {
    if (/\.(h|cuh)$/.test(name)) hash.update(name).update(await readFile(path.join(folder, name)));
  }
}

/** @param {...(string | Buffer)} parts */
function shortHash(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 16);
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
