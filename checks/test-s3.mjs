// npm run test:s3: runs set-up, then the tests with a real S3 server. The first run compiles the server from its Go module.
import { cacheDir } from '../scripts/setup/locations.mjs';
import { runSteps } from '../scripts/setup/run-steps.mjs';
import { findS3Server } from '../scripts/setup/s3-server.mjs';
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { runProgram } from './test-run/run-vitest.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const { env } = process;
  await runSteps([
    {
      name: 'S3 server',
      run: async (progress) => (await findS3Server({ cache: cacheDir(env), env, progress })).origin,
    },
  ]);
  const args = ['run', '--config', 'vitest.s3.config.ts', ...process.argv.slice(2)];
  return (await runProgram('vitest/vitest.mjs', args, { ...env, MODELS_DIR: modelsDir })) ? 0 : 1;
});
