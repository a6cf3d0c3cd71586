// npm run test:s3: runs set-up, then the tests with a real S3 server. The first run compiles the server from its Go module.

import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { installS3Server } from '../../scripts/stack/s3-server.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp();
  const { env } = process;
  await installS3Server(env);
  const args = ['--config', 'test/several-hosts/vitest.config.ts', ...process.argv.slice(2)];
  const { passed, counts } = await runVitest(args, { ...env, MODELS_DIR: modelsDir });
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
