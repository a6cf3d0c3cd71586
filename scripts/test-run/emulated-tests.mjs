import { runVitest } from './run-vitest.mjs';

/**
 * Runs the engine's suites on the CUDA engine with an emulated card.
 *
 * @param {string[]} args for vitest; `--all` includes the slow files
 * @param {NodeJS.ProcessEnv} env
 */
export async function runEmulatedTests(args, env) {
  const all = args.includes('--all') ? { EMULATED_TESTS: 'all' } : {};
  const chosen = args.filter((argument) => argument !== '--all');
  return await runVitest(['--config', 'vitest.emulated.config.ts', ...chosen], { ...env, ...all });
}
