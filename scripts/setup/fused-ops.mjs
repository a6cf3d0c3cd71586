import { readdir } from 'node:fs/promises';
import { compileNative, NODE_HEADERS } from './compile-native.mjs';
import { NATIVE_DIR, placeFiles } from './native-build.mjs';

const KEY_FILE = '.lorasmith-key';

/**
 * One library for each instruction set. An image may run on another machine than the one that built it, so all are compiled
 * and packages/tensor selects one when it starts.
 *
 * @type {Partial<Record<NodeJS.Architecture, Record<string, string[]>>>}
 */
const VARIANTS = {
  x64: {
    avx512bf16: ['-march=x86-64-v4', '-mavx512bf16', '-mprefer-vector-width=512'],
    avx512: ['-march=x86-64-v4', '-mprefer-vector-width=512'],
    avx2: ['-march=x86-64-v3'],
    generic: [],
  },
  arm64: { generic: [] },
};

/** Sums may be reordered only where the source says so; a product and a sum may be one instruction. */
const FLAGS = [
  ...['-std=c++17', '-O3', '-fPIC', '-pthread', '-fvisibility=hidden'],
  ...['-fopenmp-simd', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast'],
];

/**
 * Compiles the engine's fused ops into packages/tensor/native/build.
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup-error.mjs').SetupError} when it does not compile
 */
export async function installFusedOps(library, { cache, env, progress }) {
  const sources = (await readdir(NATIVE_DIR)).filter((name) => name.endsWith('.cc')).sort();
  const targets = Object.entries(VARIANTS[process.arch] ?? {}).map(([name, machineFlags]) => ({
    file: `${name}.node`,
    sources,
    flags: [...FLAGS, ...machineFlags, `-I${library.includeDir}`, `-I${NODE_HEADERS}`],
    // TensorFlow's addon is in the process by then, and its framework library with it: a path to it is not needed.
    libraries: [library.frameworkFile],
  }));
  const { files, key, compiled } = await compileNative(targets, { identity: library.identity, cache, env, progress });
  const placed = await placeFiles({ files, key, keyFile: KEY_FILE });
  return compiled > 0 ? 'compiled' : placed ? 'taken from the cache' : 'in place';
}
