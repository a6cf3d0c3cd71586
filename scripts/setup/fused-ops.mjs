import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { NATIVE_DIR, placeFiles } from './native-build.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';

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
  ...['-std=c++17', '-O3', '-fPIC', '-shared', '-pthread', '-fvisibility=hidden'],
  ...['-fopenmp-simd', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast'],
];

/** @returns {Promise<string[]>} names of the C++ files in {@link NATIVE_DIR} */
export async function nativeSources() {
  return (await readdir(NATIVE_DIR)).filter((name) => /\.(cc|h)$/.test(name)).sort();
}

/**
 * Compiles the engine's fused ops, once per library, sources and architecture, into packages/tensor/native/build.
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup-error.mjs').SetupError} when it does not compile
 */
export async function installFusedOps(library, { cache, env, progress }) {
  const variants = VARIANTS[process.arch] ?? {};
  const sources = await nativeSources();
  const key = await keyOf(sources, library, variants);
  const compiledDir = path.join(cache, 'addons', `fused_ops-${key}`);
  const compiled = await publishFolder(compiledDir, (partial) =>
    compile(partial, { sources, library, variants, env, progress }),
  );
  const names = Object.keys(variants).map((name) => `${name}.node`);
  const files = Object.fromEntries(names.map((name) => [name, path.join(compiledDir, name)]));
  const placed = await placeFiles({ files, key: `${key} ${names.join(' ')}`, keyFile: KEY_FILE });
  return compiled ? 'compiled' : placed ? 'taken from the cache' : 'in place';
}

/**
 * @param {string[]} sources
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {Record<string, string[]>} variants
 */
async function keyOf(sources, library, variants) {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([library.identity, process.arch, FLAGS, variants]));
  for (const name of sources) hash.update(name).update(await readFile(path.join(NATIVE_DIR, name)));
  return hash.digest('hex').slice(0, 16);
}

/**
 * @param {string} target
 * @param {{ sources: string[], library: import('./tensorflow-library.mjs').TensorflowLibrary,
 *   variants: Record<string, string[]>, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 */
async function compile(target, { sources, library, variants, env, progress }) {
  const nodeHeaders = path.join(ROOT_DIR, 'node_modules/node-api-headers/include');
  const names = Object.keys(variants);
  await Promise.all(
    Object.entries(variants).map(async ([name, machineFlags]) => {
      const flags = [...FLAGS, ...machineFlags, `-I${library.includeDir}`, `-I${nodeHeaders}`];
      const files = sources.filter((source) => source.endsWith('.cc'));
      // TensorFlow's addon is in the process by then, and its framework library with it: a path to it is not needed.
      await runCommand(
        env.CXX || 'g++',
        [...flags, ...files, library.frameworkFile, '-o', path.join(target, `${name}.node`)],
        {
          cwd: NATIVE_DIR,
          env,
          onTick: (seconds) => progress.update(`compiling for ${names.join(', ')}, ${seconds} s of about 30`),
          remedy: 'see the compiler errors above. A C++17 compiler is required: g++ 11 or later.',
        },
      );
    }),
  );
}
