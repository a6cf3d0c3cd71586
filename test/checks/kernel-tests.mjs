// npm run test:kernels [-- [--variant orders|addresses|races] [NAMES…]]: the CUDA kernels, in the emulation, against plain loops
// in double precision. NAMES: parts of the names of tests.

import { spawn } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { EMULATION_FLAGS, FLAGS } from '../../scripts/setup/cuda-engine.mjs';
import { cacheDir } from '../../scripts/setup/locations.mjs';
import { compileNative, nativeSources } from '../../scripts/setup/native-build.mjs';
import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { findTensorflowLibrary } from '../../scripts/setup/tensorflow-library.mjs';

/** Flags of ThreadSanitizer. Without the parameter, entering a function would count as an access. */
const RACE_FLAGS = ['-fsanitize=thread', '--param=tsan-instrument-func-entry-exit=0', '-fno-threadsafe-statics'];

/**
 * The way in which the kernels are compiled and tested.
 *
 * @typedef {object} Variant
 * @property {string[]} flags of the compiler, for kernels
 * @property {string[]} linkFlags
 * @property {boolean} findsRaces
 * @property {number[]} withoutHeadSizes attention and linear attention are not tested at these: the same templates are at others
 * @property {string[]} args of the program
 * @property {Record<string, string>} env
 */

/** @type {Record<'orders' | 'addresses' | 'races', Variant>} */
export const VARIANTS = {
  /** A build that runs the threads of a block in several orders: a result may not depend on it. Shares its objects with the emulated driver. */
  orders: {
    flags: EMULATION_FLAGS,
    linkFlags: [],
    findsRaces: false,
    withoutHeadSizes: [],
    args: ['--orders=0,1,7'],
    env: {},
  },
  /** A build with AddressSanitizer, which finds accesses beyond global or shared memory, and addresses that are not aligned. */
  addresses: {
    flags: [...FLAGS, '-O1', '-g1', '-fsanitize=address,alignment', '-fno-sanitize-recover=all'],
    linkFlags: ['-fsanitize=address,alignment'],
    findsRaces: false,
    withoutHeadSizes: [80, 96],
    args: ['--orders=0', '--small'],
    env: { ASAN_OPTIONS: 'detect_stack_use_after_return=0:detect_leaks=0' },
  },
  /** A build with emulation/races.cc, which finds accesses of two threads without a barrier between. */
  races: {
    flags: [...FLAGS, '-O1', ...RACE_FLAGS],
    linkFlags: [],
    findsRaces: true,
    withoutHeadSizes: [80, 96, 256],
    args: ['--orders=0', '--small'],
    env: {},
  },
};

/** @param {Variant} variant @returns {string[]} arguments of the program that {@link compileKernelTests} compiles */
export function argumentsOf(variant) {
  return [...variant.args, ...variant.withoutHeadSizes.map((size) => `--without=_${size}`)];
}

/**
 * Compiles the kernel tests of packages/tensor/native.
 *
 * @param {Variant} variant
 * @param {{ identity: string, cache: string, env: NodeJS.ProcessEnv, progress: import('../../scripts/setup/run-steps.mjs').Progress }} options
 * @returns {Promise<{ program: string, objects: Record<string, string> }>} `objects`: by source
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError} when it does not compile
 */
export async function compileKernelTests(variant, options) {
  const without = variant.withoutHeadSizes.map((size) => `_${size}.cu`);
  const kernels = (await nativeSources('kernels')).filter((source) => !without.some((end) => source.endsWith(end)));
  // Tests of kernels that take strides compute these with the host's code.
  const others = [...(await nativeSources('kernelTests')), 'cuda/host/strides.cc'];
  if (variant.findsRaces) others.push('cuda/emulation/races.cc');
  const target = {
    file: 'kernel-tests',
    sources: [...kernels, ...others],
    flags: variant.flags,
    // The same objects in all variants: only accesses of kernels are checked.
    flagsOf: Object.fromEntries(others.map((source) => [source, EMULATION_FLAGS])),
    libraries: variant.linkFlags,
    isProgram: true,
  };
  const { files, objects } = await compileNative([target], options);
  return { program: /** @type {string} */ (files[target.file]), objects };
}

/**
 * Compiles and runs the kernel tests.
 *
 * @param {Variant} variant
 * @param {{ env: NodeJS.ProcessEnv, names?: string[] }} options `names`: parts of the names of tests; default, all tests
 * @returns {Promise<{ passed: boolean, output: string }>}
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError} when a kernel does not compile
 */
export async function runKernelTests(variant, { env, names = [] }) {
  const progress = { update: () => {} };
  const cache = cacheDir(env);
  const { library } = await findTensorflowLibrary({ cache, env, progress });
  const { program } = await compileKernelTests(variant, { identity: library.identity, cache, env, progress });
  return await runProgram(program, [...argumentsOf(variant), ...names], { ...env, ...variant.env });
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {number} [timeoutMs] after which it is killed
 * @returns {Promise<{ passed: boolean, output: string }>}
 */
export async function runProgram(program, args, env, timeoutMs) {
  const child = spawn(program, args, {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    killSignal: 'SIGKILL',
    ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject).on('close', resolve);
  });
  return { passed: code === 0, output };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const names = process.argv.slice(2);
  const at = names.indexOf('--variant');
  const only = at < 0 ? null : names.splice(at, 2)[1];
  try {
    for (const [name, variant] of Object.entries(VARIANTS)) {
      if (only !== null && only !== name) continue;
      console.log(`\nKernel tests: ${name}`);
      const { passed, output } = await runKernelTests(variant, { env: process.env, names });
      console.log(output);
      if (!passed) process.exitCode = 1;
    }
  } catch (error) {
    console.error(describeFailure(error));
    process.exitCode = 1;
  }
}
