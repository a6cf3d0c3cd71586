import path from 'node:path';
import { ROOT_DIR } from './locations.mjs';
import { runCommand } from './run-command.mjs';

/**
 * Compiles every package and service; only what changed since the last time.
 *
 * @param {{ env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} one line for the report
 * @throws {import('./setup-error.mjs').SetupError}
 */
export async function compilePackages({ env, progress }) {
  await runCommand(process.execPath, [path.join(ROOT_DIR, 'node_modules/typescript/bin/tsc'), '--build'], {
    cwd: ROOT_DIR,
    env,
    onTick: (seconds) => progress.update(`compiling, ${seconds} s`),
    remedy: 'the compiler names file and line above. In an unchanged clone this is a bug: please report it.',
  });
  return 'compiled';
}
