import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { pythonEnvironment } from '../../../scripts/setup/python-environment.mjs';

const REQUIREMENTS = path.join(ROOT_DIR, 'test/checks/fuzz/requirements.txt');

/**
 * Installs Schemathesis, an API fuzzer, once.
 *
 * @param {string} cache
 * @returns {Promise<string>} its program
 * @throws {import('../../../scripts/setup/run-steps.mjs').SetupError}
 */
export async function schemathesisProgram(cache) {
  return path.join(
    await pythonEnvironment({ cache, name: 'schemathesis', requirements: REQUIREMENTS }),
    'schemathesis',
  );
}
