// npm run test:emulated [-- [--all | --kernels] FILES…]: the engine's suites on the CUDA engine with an emulated card. --all: the slow ones, too; --kernels: without layers and trainings.
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { runEmulatedTests } from './test-run/emulated-tests.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const args = process.argv.slice(2);
  const instructionSets = args.includes('--all') ? 'all' : 'own';
  const { modelsDir } = await setUp({ cuda: 'emulated', redis: false, instructionSets });
  const { passed, counts } = await runEmulatedTests(args, { ...process.env, MODELS_DIR: modelsDir });
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
