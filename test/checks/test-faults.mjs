// npm run test:faults: runs set-up, then the fault suite. The last line is the count.
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp({ demoModel: false, cuda: 'emulated' });
  const env = { TF_CPP_MIN_LOG_LEVEL: '2', ...process.env, MODELS_DIR: modelsDir };
  const { passed, counts } = await runVitest(
    ['--config', 'test/faults/vitest.config.ts', ...process.argv.slice(2)],
    env,
  );
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
