// npm run test:fast | test:faults | test:emulated | test:s3 [-- FILES…]: runs set-up for one suite, and then the suite or its FILES. The last
// line is the count.
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { installS3Server } from '../../scripts/stack/s3-server.mjs';
import { printEnd, runEmulatedTests, runVitest } from './test-run/run-vitest.mjs';

const [suite = '', ...args] = process.argv.slice(2);
const { env } = process;

/** @type {Record<string, () => ReturnType<typeof runVitest>>} */
const SUITES = {
  /** The tests beside the sources of all that needs no engine, no service and no Redis. */
  async fast() {
    const { modelsDir } = await setUp({ redis: false });
    return await runVitest(['--project', 'fast', ...args], { ...env, MODELS_DIR: modelsDir });
  },
  /** The fault suite. */
  async faults() {
    const { modelsDir } = await setUp({ demoModel: false, cuda: 'emulated' });
    const own = { TF_CPP_MIN_LOG_LEVEL: '2', ...env, MODELS_DIR: modelsDir };
    return await runVitest(['--config', 'test/faults/vitest.config.ts', ...args], own);
  },
  /** The engine's suites on the CUDA engine with an emulated card. --all: the slow ones, too; --kernels: without layers and trainings. */
  async emulated() {
    const instructionSets = args.includes('--all') ? 'all' : 'own';
    const { modelsDir } = await setUp({ cuda: 'emulated', redis: false, instructionSets });
    return await runEmulatedTests(args, { ...env, MODELS_DIR: modelsDir });
  },
  /** The tests with a real S3 server. The first run compiles the server from its Go module. */
  async s3() {
    const { modelsDir } = await setUp();
    await installS3Server(env);
    return await runVitest(['--config', 'test/several-hosts/vitest.config.ts', ...args], {
      ...env,
      MODELS_DIR: modelsDir,
    });
  },
};

await runAsCommand(async () => {
  const start = SUITES[suite];
  if (start === undefined)
    throw new Error(`there is no suite ${suite}; the suites are ${Object.keys(SUITES).join(', ')}`);
  const run = await start();
  printEnd(run);
  return run.passed ? 0 : 1;
});
