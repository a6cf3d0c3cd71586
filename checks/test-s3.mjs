// npm run test:s3: runs set-up, then the tests with a real S3 server. The first run compiles the server from its Go module.
import { cacheDir } from '../scripts/setup/locations.mjs';
import { runSteps } from '../scripts/setup/run-steps.mjs';
import { findS3Server } from '../scripts/setup/s3-server.mjs';
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const { env } = process;
  await runSteps([
    {
      name: 'S3 server',
      run: async (progress) => (await findS3Server({ cache: cacheDir(env), env, progress })).origin,
    },
  ]);
  const args = ['--config', 'vitest.s3.config.ts', ...process.argv.slice(2)];
  const { passed, counts } = await runVitest(args, { ...env, MODELS_DIR: modelsDir });
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
