import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { BUILD_DIR, compileNative, NODE_HEADERS, nativeSources, placeFiles } from './native-build.mjs';

/** Sums may be reordered only where the source says so; a product and a sum may be one instruction. */
const FLAGS = [
  ...['-std=c++17', '-O3', '-fPIC', '-pthread', '-fvisibility=hidden'],
  ...['-fopenmp-simd', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast'],
];

/**
 * Compiles the engine's fused ops into packages/tensor/native/build: a library for each instruction set, of which packages/tensor selects one
 * when it starts.
 *
 * @param {import('./tensorflow-library.mjs').TensorflowLibrary} library
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, instructionSets: 'own' | 'all' }} options
 *   `instructionSets`: the best one that this machine runs, or all: an image may run on another machine than the one that built it
 * @returns {Promise<string>} one line for the report
 * @throws {import('./run-steps.mjs').SetupError} when it does not compile
 */
export async function installFusedOps(library, { cache, env, progress, instructionSets }) {
  const sources = await nativeSources('cpu');
  const all = Object.entries(INSTRUCTION_SETS[process.arch] ?? {});
  const own = ownInstructionSet();
  const isWanted = (/** @type {string} */ name) => instructionSets === 'all' || name === own;
  const targets = all.flatMap(([name, { compiler }]) => {
    if (!isWanted(name)) return [];
    const flags = [...FLAGS, ...compiler, '-I.', `-I${library.includeDir}`, `-I${NODE_HEADERS}`];
    // TensorFlow's addon is in the process by then, and its framework library with it: a path to it is not needed.
    return [{ file: `${name}.node`, sources, flags, libraries: [library.frameworkFile] }];
  });
  const { files, keys, compiled } = await compileNative(targets, { identity: library.identity, cache, env, progress });
  let placed = false;
  for (const { file } of targets) {
    const of = { files: { [file]: /** @type {string} */ (files[file]) }, key: /** @type {string} */ (keys[file]) };
    if (await placeFiles({ ...of, keyFile: keyFileOf(file) })) placed = true;
  }
  // The sources are not those of an earlier set-up: what it compiled for the others is older than they are.
  if (placed) for (const [name] of all) if (!isWanted(name)) await removeLibrary(`${name}.node`);
  const state = compiled > 0 ? 'compiled' : placed ? 'taken from the cache' : 'in place';
  return instructionSets === 'all' ? `${state} for all instruction sets` : `${state} for ${own}`;
}

/** @param {string} file of a library */
function keyFileOf(file) {
  return `.${file}.lorasmith-key`;
}

/** @param {string} file of a library */
async function removeLibrary(file) {
  for (const name of [keyFileOf(file), file]) await rm(path.join(BUILD_DIR, name), { force: true });
}

const AVX512 = ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

/**
 * The instruction sets for which the fused ops are compiled, best first, by architecture of the processor: the flags of /proc/cpuinfo that
 * each needs (packages/tensor has the same), and those of the compiler.
 *
 * @type {Partial<Record<NodeJS.Architecture, Record<string, { processor: string[], compiler: string[] }>>>}
 */
export const INSTRUCTION_SETS = {
  x64: {
    avx512bf16: {
      processor: [...AVX512, 'avx512_bf16'],
      compiler: ['-march=x86-64-v4', '-mavx512bf16', '-mprefer-vector-width=512'],
    },
    avx512: { processor: AVX512, compiler: ['-march=x86-64-v4', '-mprefer-vector-width=512'] },
    avx2: { processor: ['avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe'], compiler: ['-march=x86-64-v3'] },
    generic: { processor: [], compiler: [] },
  },
  arm64: { generic: { processor: [], compiler: [] } },
};

/**
 * The best instruction set that this processor runs.
 *
 * @param {string} [cpuinfo] default: that of this machine
 * @returns {string | undefined} undefined on an architecture without one
 */
export function ownInstructionSet(cpuinfo = readCpuinfo()) {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
  const sets = Object.entries(INSTRUCTION_SETS[process.arch] ?? {});
  return sets.find(([, { processor }]) => processor.every((flag) => flags.has(flag)))?.[0];
}

function readCpuinfo() {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}
