import { findGoProgram } from './go-program.mjs';

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
