import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { SetupError } from './setup-error.mjs';

/** Files of a checkout that is set up; the library is a link into the cache of the user who has set it up. */
const STAMP = 'node_modules/.lorasmith-install';
const LIBRARY = 'packages/tensor/node_modules/@tensorflow/tfjs-node-gpu/deps/lib/libtensorflow.so';
const COMPILED = ['services/api/dist/main.js', 'services/worker/dist/main.js', 'services/registry/dist/main.js'];

/** @returns {boolean} true if this user may write the checkout, as set-up does */
export function mayWriteCheckout() {
  try {
    accessSync(ROOT_DIR, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Checks that another user, or this one before the checkout became read-only, has set it up so that this user can run it.
 *
 * @param {string} [rootDir]
 * @throws {SetupError} in one line, with what its owner must do
 */
export function checkSetUpByOwner(rootDir = ROOT_DIR) {
  const missing = [STAMP, ...COMPILED].find((file) => !existsSync(path.join(rootDir, file)));
  if (missing) {
    throw new SetupError(
      `${rootDir} cannot be written by this user, and is not set up (${missing} is missing)`,
      'run npm run setup there as its owner, or make a checkout of your own.',
    );
  }
  try {
    accessSync(path.join(rootDir, LIBRARY), constants.R_OK);
  } catch (cause) {
    throw new SetupError(
      `${rootDir} was set up by another user, whose cache this user cannot read (TensorFlow is in it)`,
      'run npm run setup there again as its owner, with LORASMITH_CACHE_DIR in a folder that both can read, such as /var/cache/lorasmith; or make a checkout of your own.',
      { cause },
    );
  }
}
