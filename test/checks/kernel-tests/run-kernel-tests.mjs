import { spawn } from 'node:child_process';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { findTensorflowLibrary } from '../../../scripts/setup/tensorflow-library.mjs';
import { argumentsOf, compileKernelTests } from './kernel-test-program.mjs';

/**
 * Compiles and runs the kernel tests.
 *
 * @param {import('./kernel-test-program.mjs').Variant} variant
 * @param {{ env: NodeJS.ProcessEnv, names?: string[] }} options `names`: parts of the names of tests; default, all tests
 * @returns {Promise<{ passed: boolean, output: string }>}
 * @throws {import('../../../scripts/setup/run-steps.mjs').SetupError} when a kernel does not compile
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
