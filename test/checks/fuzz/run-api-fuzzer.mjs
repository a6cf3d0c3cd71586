import path from 'node:path';
import { cacheDir, ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../../../scripts/setup/python-environment.mjs';
import { runVitest } from '../test-run/run-vitest.mjs';

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

const REQUIREMENTS = path.join(ROOT_DIR, 'test/checks/fuzz/requirements.txt');

/**
 * Installs Schemathesis, an API fuzzer, once.
 *
 * @param {string} cache
 * @returns {Promise<string>} its program
 * @throws {import('../../../scripts/setup/run-steps.mjs').SetupError}
 */
async function schemathesisProgram(cache) {
  return path.join(
    await pythonEnvironment({ cache, name: 'schemathesis', requirements: REQUIREMENTS }),
    'schemathesis',
  );
}
