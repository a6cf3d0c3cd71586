import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ROOT_DIR } from '../setup/locations.mjs';

/**
 * @param {string} program below node_modules
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<boolean>} whether it exited with 0
 */
export async function runProgram(program, args, env) {
  const child = spawn(process.execPath, [path.join(ROOT_DIR, 'node_modules', program), ...args], {
    cwd: ROOT_DIR,
    env,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  return code === 0;
}
