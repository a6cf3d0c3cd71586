// npm run test:s3: set-up, then what uses a real S3 server. The first run compiles the server from its Go module.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { cacheDir, ROOT_DIR } from './setup/locations.mjs';
import { runSteps } from './setup/run-steps.mjs';
import { findS3Server } from './setup/s3-server.mjs';
import { runAsCommand, setUp } from './setup.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const { env } = process;
  await runSteps([
    {
      name: 'S3 server',
      run: async (progress) => (await findS3Server({ cache: cacheDir(env), env, progress })).origin,
    },
  ]);
  const vitest = path.join(ROOT_DIR, 'node_modules/vitest/vitest.mjs');
  const args = [vitest, 'run', '--config', 'vitest.s3.config.ts', ...process.argv.slice(2)];
  const tests = spawn(process.execPath, args, {
    cwd: ROOT_DIR,
    env: { ...env, MODELS_DIR: modelsDir },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = await once(tests, 'exit');
  return code ?? 1;
});
