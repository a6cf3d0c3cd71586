import { existsSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { TENSORFLOW_WHEELS } from './pinned-wheels.mjs';
import { SetupError } from './run-steps.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/** The C API: TensorFlow's own C distribution calls it libtensorflow, the Python wheels have it in libtensorflow_cc. */
const C_API_NAMES = ['libtensorflow.so.2', 'libtensorflow_cc.so.2'];
const FRAMEWORK_NAME = 'libtensorflow_framework.so.2';

/**
 * TensorFlow's C library, ready to compile and link against.
 *
 * @typedef {object} TensorflowLibrary
 * @property {string} includeDir the folder above `tensorflow/c/c_api.h`
 * @property {string} cApiFile
 * @property {string} frameworkFile
 * @property {string} identity changes whenever the library does; part of the compiled addon's cache key
 */

/**
 * Finds the library in `LIBTENSORFLOW_DIR`, or downloads the pinned wheel into the cache.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<{ library: TensorflowLibrary, origin: string }>} `origin`: one line for the report
 * @throws {SetupError}
 */
export async function findTensorflowLibrary({ cache, env, progress }) {
  if (env.LIBTENSORFLOW_DIR) {
    const folder = path.resolve(env.LIBTENSORFLOW_DIR);
    return {
      library: libraryIn(path.join(folder, 'lib'), path.join(folder, 'include')),
      origin: `from LIBTENSORFLOW_DIR, ${folder}`,
    };
  }
  const wheel = TENSORFLOW_WHEELS[process.arch];
  if (!wheel) throw new SetupError(`there is no pinned TensorFlow for ${process.arch}`, 'set LIBTENSORFLOW_DIR.');
  const { folder, fresh } = await unpackWheel(wheel, { cache, env, progress });
  const inWheel = path.join(folder, 'tensorflow');
  // The hash stands for the content wherever and whenever it was unpacked.
  const library = { ...libraryIn(inWheel, path.join(inWheel, 'include')), identity: wheel.sha256 };
  return { library, origin: `${wheel.project} ${wheel.version} ${fresh ? 'downloaded' : 'in the cache'}` };
}

/**
 * @param {string} libDir
 * @param {string} includeDir
 * @returns {TensorflowLibrary}
 * @throws {SetupError} naming the file that is missing
 */
export function libraryIn(libDir, includeDir) {
  const cApiName = C_API_NAMES.find((name) => existsSync(path.join(libDir, name)));
  const missing = [
    ...(cApiName ? [] : [path.join(libDir, C_API_NAMES.join(' or '))]),
    ...[path.join(libDir, FRAMEWORK_NAME), path.join(includeDir, 'tensorflow/c/c_api.h')].filter(
      (file) => !existsSync(file),
    ),
  ];
  if (!cApiName || missing.length > 0) {
    throw new SetupError(
      `TensorFlow's C library is not complete; missing: ${missing.join(', ')}`,
      `LIBTENSORFLOW_DIR must name a folder with lib/ and include/; unset it to use the pinned download. If it is not set, remove ${libDir} and run the same command again.`,
    );
  }
  const cApiFile = realpathSync(path.join(libDir, cApiName));
  const { size, mtimeMs } = statSync(cApiFile);
  return {
    includeDir: realpathSync(includeDir),
    cApiFile,
    frameworkFile: realpathSync(path.join(libDir, FRAMEWORK_NAME)),
    identity: `${cApiName} ${size} ${mtimeMs}`,
  };
}
