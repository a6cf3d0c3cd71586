// npm run test:emulated [-- [--all | --kernels] FILES…]: the engine's suites on the CUDA engine with an emulated card. --all: the slow ones, too; --kernels: without layers and trainings.
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { runEmulatedTests } from './test-run/emulated-tests.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp({ cuda: 'emulated', redis: false });
  const { passed, counts } = await runEmulatedTests(process.argv.slice(2), { ...process.env, MODELS_DIR: modelsDir });
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
