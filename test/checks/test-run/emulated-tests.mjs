import { runVitest } from './run-vitest.mjs';

/**
 * Runs the engine's suites on the CUDA engine with an emulated card.
 *
 * @param {string[]} args for vitest; `--all` includes the slow files, `--kernels` leaves out the suites of layers and trainings
 * @param {NodeJS.ProcessEnv} env
 */
export async function runEmulatedTests(args, env) {
  const extent = args.includes('--all') ? 'all' : args.includes('--kernels') ? 'kernels' : 'usual';
  const chosen = args.filter((argument) => !['--all', '--kernels'].includes(argument));
  return await runVitest(['--config', 'test/emulated/vitest.config.ts', ...chosen], { ...env, EMULATED_TESTS: extent });
}
