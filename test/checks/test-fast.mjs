// npm run test:fast [-- FILES…]: the tests beside the sources of all that needs no engine, no service and no Redis.
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { modelsDir } = await setUp({ redis: false });
  const args = ['--project', 'fast', ...process.argv.slice(2)];
  const { passed, counts } = await runVitest(args, { ...process.env, MODELS_DIR: modelsDir });
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
