import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { runVitest } from '../test-run/run-vitest.mjs';
import { schemathesisProgram } from './schemathesis.mjs';

/**
 * Fuzzes the api of real services, without and with a key.
 *
 * @param {{ examples?: string | undefined, minutes?: string | undefined, seed?: string | undefined }} limits as those of
 *   `npm run fuzz:api`
 * @param {NodeJS.ProcessEnv} env
 */
export async function runApiFuzzer({ examples, minutes, seed }, env) {
  const settings = {
    FUZZ_PROGRAM: await schemathesisProgram(cacheDir(env)),
    ...(examples && { FUZZ_EXAMPLES: examples }),
    ...(minutes && { FUZZ_MINUTES: minutes }),
    ...(seed && { FUZZ_SEED: seed }),
  };
  return await runVitest(['--config', 'test/fuzz-api/vitest.config.ts'], { ...env, ...settings });
}
