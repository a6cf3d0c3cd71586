// npm run fuzz:api [-- --examples N]: fuzzes the running services with Schemathesis and the OpenAPI document.
import { parseArgs } from 'node:util';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { schemathesisProgram } from './fuzz/schemathesis.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

await runAsCommand(async () => {
  const { values } = parseArgs({ options: { examples: { type: 'string' }, seed: { type: 'string' } } });
  await setUp({ demoModel: false });
  const env = {
    ...process.env,
    FUZZ_PROGRAM: await schemathesisProgram(cacheDir(process.env)),
    ...(values.examples && { FUZZ_EXAMPLES: values.examples }),
    ...(values.seed && { FUZZ_SEED: values.seed }),
  };
  const { passed, counts } = await runVitest(['--config', 'vitest.fuzz.config.ts'], env);
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
