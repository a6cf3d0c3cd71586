// npm run fuzz:api [-- --examples N] [--minutes M] [--seed S]: fuzzes the real services with Schemathesis and the OpenAPI
// document, without and with an API key.
//
// --examples  requests for each operation and phase; default 650, which takes about 20 minutes
// --minutes   time for both runs together, instead: all operations get a few requests each, again and again until it is over
// --seed      default 1
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../../scripts/setup/python-environment.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { printEnd, runVitest } from './run-vitest.mjs';

/**
 * Fuzzes the api of real services, without and with a key.
 *
 * @param {{ examples?: string | undefined, minutes?: string | undefined, seed?: string | undefined }} limits as those of
 *   `npm run fuzz:api`
 * @param {NodeJS.ProcessEnv} env
 * @param {number | 'inherit'} [output] as that of {@link runVitest}
 */
export async function runApiFuzzer({ examples, minutes, seed }, env, output) {
  const settings = {
    FUZZ_PROGRAM: await schemathesisProgram(cacheDir(env)),
    ...(examples && { FUZZ_EXAMPLES: examples }),
    ...(minutes && { FUZZ_MINUTES: minutes }),
    ...(seed && { FUZZ_SEED: seed }),
  };
  return await runVitest(['--config', 'test/fuzz-api/vitest.config.ts'], { ...env, ...settings }, output);
}

const REQUIREMENTS = path.join(ROOT_DIR, 'test/checks/fuzz/requirements.txt');

/**
 * Installs Schemathesis, an API fuzzer, once.
 *
 * @param {string} cache
 * @returns {Promise<string>} its program
 * @throws {import('../../scripts/setup/run-steps.mjs').SetupError}
 */
async function schemathesisProgram(cache) {
  return path.join(
    await pythonEnvironment({ cache, name: 'schemathesis', requirements: REQUIREMENTS }),
    'schemathesis',
  );
}

const options = /** @type {const} */ ({
  examples: { type: 'string' },
  minutes: { type: 'string' },
  seed: { type: 'string' },
});

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runAsCommand(async () => {
    const { values } = parseArgs({ options });
    await setUp({ demoModel: false });
    const run = await runApiFuzzer(values, process.env);
    printEnd(run);
    return run.passed ? 0 : 1;
  });
}
