// Runs set-up, then one of the repository's compiled programs: node scripts/run-program.mjs PROGRAM [ARGUMENT…]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { ROOT_DIR } from './setup/locations.mjs';
import { runAsCommand, setUp } from './setup.mjs';
import { onInterruption } from './stack/interruption.mjs';

await runAsCommand(async () => {
  const [program = '', ...args] = process.argv.slice(2);
  const { modelsDir } = await setUp({ redis: false, demoModel: false });
  const child = spawn(process.execPath, [path.join(ROOT_DIR, program), ...args], {
    // npm runs scripts in the repository's root, but file names are relative to the user's current folder.
    cwd: process.env.INIT_CWD ?? process.cwd(),
    env: { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir },
    // In its own process group, so that Ctrl-C reaches it once, from here.
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  onInterruption((signal) => child.kill(signal));
  const [code] = await once(child, 'exit');
  return code ?? 1;
});
