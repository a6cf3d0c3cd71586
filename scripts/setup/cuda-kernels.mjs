import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { cacheDir } from './locations.mjs';
import { NATIVE_DIR, nativeSources, placeFiles, withIncludes } from './native-build.mjs';
import { NVRTC_WHEELS } from './pinned-wheels.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { describeFailure, SetupError } from './run-steps.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

const COMPILE_PROGRAM = fileURLToPath(new URL('nvrtc-compile.py', import.meta.url));

/**
 * Machine code (cubin) for A100, RTX 30, RTX 40 and L4, H100, B200, and RTX 50. A card runs the code of its own major version
 * with the same or a lower minor version.
 */
export const CUBIN_ARCHITECTURES = ['sm_80', 'sm_86', 'sm_89', 'sm_90', 'sm_100', 'sm_120'];
/** Intermediate code (PTX), which the driver of a card of a later major version compiles. */
export const PTX_ARCHITECTURE = 'compute_80';
export const ARCHITECTURES = [...CUBIN_ARCHITECTURES, PTX_ARCHITECTURE];

/** Functions without a mark are the device's: headers that the host's C++ shares have constexpr functions. */
const OPTIONS = ['--std=c++17', '--include-path=.', '--device-as-default-execution-space'];
/** Reports registers, spills and shared memory of each kernel, which test/emulated/compiled-kernels.test.ts limits. */
const CUBIN_OPTIONS = ['--ptxas-options=-v'];
/** Settings of gzip: less than a quarter is left, and native/cuda/host/launch.cc decompresses it. */
const COMPRESSION = { level: 9 };

/**
 * One kernel source compiled for one architecture.
 *
 * @typedef {object} CompiledKernel
 * @property {string} name of the source, without folders and `.cu`
 * @property {string} source relative to {@link NATIVE_DIR}
 * @property {string} architecture such as `sm_90` or `compute_80`
 * @property {string} key stands for everything that the result depends on
 */

/** @param {string} architecture @returns {string} the ending of its files' names */
export function kernelExtension(architecture) {
  return architecture.startsWith('sm_') ? 'cubin' : 'ptx';
}

/**
 * @param {string[]} architectures
 * @param {string} [only] a source; default, all
 * @returns {Promise<CompiledKernel[]>} every kernel source for each of the architectures
 */
export async function compiledKernels(architectures, only) {
  const all = await nativeSources('kernels');
  const sources = only === undefined ? all : all.filter((source) => path.basename(source) === only);
  const program = await readFile(COMPILE_PROGRAM, 'utf8');
  const kernels = [];
  for (const source of sources) {
    // The compiler for GPUs does not reach the emulation of a GPU.
    const contents = await withIncludes(source, { flags: ['-I.'], without: 'cuda/emulation' });
    for (const architecture of architectures) {
      const key = createHash('sha256')
        .update(
          JSON.stringify([nvrtcWheel().sha256, architecture, OPTIONS, CUBIN_OPTIONS, COMPRESSION, program, contents]),
        )
        .digest('hex')
        .slice(0, 16);
      kernels.push({ name: path.basename(source, '.cu'), source, architecture, key });
    }
  }
  return kernels;
}

/** @param {CompiledKernel[]} kernels of one architecture @returns {string} the content of the key file next to them */
export function keyOfKernels(kernels) {
  return kernels.map(({ name, key }) => `${name} ${key}`).join('\n');
}

/** The name of that file, in each architecture's folder. */
export const KERNELS_KEY_FILE = '.lorasmith-key';

/**
 * Compiles the CUDA kernels with NVRTC into native/build/cuda/ARCHITECTURE, compressed. Each kernel is compiled once for its
 * sources and architecture, so a changed kernel is compiled alone. No GPU or driver is needed.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, architectures?: string[] }} options
 *   `architectures`: default, all
 * @returns {Promise<string>} one line for the report
 * @throws {SetupError} when one does not compile
 */
export async function installCudaKernels({ cache, env, progress, architectures = ARCHITECTURES }) {
  const library = await nvrtcLibrary({ cache, env, progress });
  const kernels = await compiledKernels(architectures);
  const folderOf = (/** @type {CompiledKernel} */ { name, architecture, key }) =>
    path.join(cache, 'cuda-kernels', `${name}-${architecture}-${key}`);

  const missing = kernels.filter((kernel) => !existsSync(folderOf(kernel)));
  let done = 0;
  await forEachInParallel(missing, async (kernel) => {
    progress.update(`compiling CUDA kernels, ${done} of ${missing.length}; all of them take 4 minutes on two cores`);
    await publishFolder(folderOf(kernel), async (partial) => {
      await compileKernel(kernel, { library, folder: partial, env });
      const file = path.join(partial, `${kernel.name}.${kernelExtension(kernel.architecture)}`);
      await writeFile(`${file}.gz`, gzipSync(await readFile(file), COMPRESSION));
      await rm(file);
      const [now] = await compiledKernels([kernel.architecture], `${kernel.name}.cu`);
      if (now?.key !== kernel.key) {
        throw new SetupError(`${kernel.name}.cu changed while it was compiled`, 'run the same command again.');
      }
    });
    done += 1;
  });
  let placed = false;
  for (const architecture of architectures) {
    const ours = kernels.filter((kernel) => kernel.architecture === architecture);
    /** @type {Record<string, string>} */
    const files = {};
    for (const kernel of ours) {
      for (const name of [`${kernel.name}.${kernelExtension(architecture)}.gz`, `${kernel.name}.log`]) {
        files[name] = path.join(folderOf(kernel), name);
      }
    }
    const folder = `cuda/${architecture}`;
    const key = keyOfKernels(ours);
    if (await placeFiles({ folder, files, key, keyFile: KERNELS_KEY_FILE, alone: true })) placed = true;
  }
  const total = `${kernels.length} CUDA kernel files`;
  return missing.length > 0
    ? `${total}, ${missing.length} compiled`
    : `${total} ${placed ? 'from the cache' : 'in place'}`;
}

/**
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} the file of the compiler's library
 */
export async function nvrtcLibrary(options) {
  const { folder } = await unpackWheel(nvrtcWheel(), options);
  return path.join(folder, /** @type {string} */ (nvrtcWheel().members[0]));
}

function nvrtcWheel() {
  const wheel = NVRTC_WHEELS[process.arch];
  if (!wheel) throw new SetupError(`there is no pinned NVRTC for ${process.arch}`, 'use a machine with x64 or arm64.');
  return wheel;
}

/**
 * Compiles one kernel source.
 *
 * @param {{ source: string, architecture: string }} kernel
 * @param {{ library: string, folder: string, env: NodeJS.ProcessEnv, sources?: string }} options `library`: NVRTC's;
 *   `folder`: for the result and the compiler's log; `sources`: the folder that the source's path begins at
 * @throws {SetupError} with the compiler's errors
 */
export async function compileKernel({ source, architecture }, { library, folder, env, sources = NATIVE_DIR }) {
  const extension = kernelExtension(architecture);
  const name = path.basename(source, '.cu');
  const files = [source, path.join(folder, `${name}.${extension}`), path.join(folder, `${name}.log`)];
  const options = [...OPTIONS, ...(extension === 'cubin' ? CUBIN_OPTIONS : [])];
  // Relative names, so that no path of this machine is in the result.
  await runCommand('python3', [COMPILE_PROGRAM, library, ...files, `--gpu-architecture=${architecture}`, ...options], {
    cwd: sources,
    env,
    remedy: `see the errors of the CUDA compiler for ${architecture} above.`,
  });
}

/**
 * Works on every core, one item after the other. After a failure none is started.
 *
 * @template T
 * @param {T[]} items
 * @param {(item: T) => Promise<void>} work
 */
async function forEachInParallel(items, work) {
  const waiting = [...items];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) {
      await work(item).catch((error) => {
        waiting.length = 0;
        throw error;
      });
    }
  };
  // All have ended before the failure is reported, so that none writes into the cache after it.
  const results = await Promise.allSettled(Array.from({ length: availableParallelism() }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

// node scripts/setup/cuda-kernels.mjs [--arch sm_90]…: compiles them for all architectures, or for the named ones.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const chosen = process.argv.slice(2).filter((argument) => argument !== '--arch');
  const unknown = chosen.filter((name) => !ARCHITECTURES.includes(name));
  try {
    if (unknown.length > 0) throw new SetupError(`unknown: ${unknown}`, `use one of ${ARCHITECTURES.join(', ')}.`);
    const { env } = process;
    const progress = { update: (/** @type {string} */ text) => console.error(text) };
    const architectures = chosen.length > 0 ? chosen : ARCHITECTURES;
    console.log(await installCudaKernels({ cache: cacheDir(env), env, progress, architectures }));
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
