import { findGoProgram } from './go-program.mjs';
import { cacheDir } from './locations.mjs';
import { runSteps } from './run-steps.mjs';

/**
 * A real S3 server for tests. It stores objects as files, supports conditional puts and multipart uploads, and needs no
 * special permissions.
 *
 * @type {import('./go-program.mjs').GoProgram}
 */
const VERSITYGW = {
  name: 'versitygw',
  modulePackage: 'github.com/versity/versitygw/cmd/versitygw',
  version: 'v1.8.0',
  goVersion: [1, 25],
};

/**
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<{ file: string, origin: string }>} the server program
 * @throws {import('./setup-error.mjs').SetupError}
 */
export function findS3Server(options) {
  return findGoProgram(VERSITYGW, options);
}

/**
 * Compiles the server once, as a step of its own after set-up.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string>} the server program
 * @throws {import('./setup-error.mjs').SetupError} naming the step
 */
export async function installS3Server(env) {
  let server = '';
  await runSteps([
    {
      name: 'S3 server',
      async run(progress) {
        const { file, origin } = await findS3Server({ cache: cacheDir(env), env, progress });
        server = file;
        return origin;
      },
    },
  ]);
  return server;
}
