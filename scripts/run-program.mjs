// Set-up, then one of the repository's compiled programs: node scripts/run-program.mjs PROGRAM [ARGUMENT…]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { runAsCommand, setUp } from './setup.mjs';

await runAsCommand(async () => {
  const [program = '', ...args] = process.argv.slice(2);
  const { modelsDir } = await setUp({ redis: false, demoModel: false });
  const child = spawn(process.execPath, [path.join(ROOT_DIR, program), ...args], {
    // npm runs scripts in the repository's root; file names are meant from where the user typed them.
    cwd: process.env.INIT_CWD ?? process.cwd(),
    env: { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir },
    stdio: 'inherit',
  });
  const pass = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
  process.on('SIGINT', pass);
  process.on('SIGTERM', pass);
  const [code] = await once(child, 'exit');
  return code ?? 1;
});
