// npm run fuzz:api [-- --examples N] [--minutes M] [--seed S]: fuzzes the real services with Schemathesis and the OpenAPI
// document, without and with an API key.
//
// --examples  requests for each operation and phase; default 650, which takes about 20 minutes
// --minutes   time for both runs together, instead: all operations get a few requests each, again and again until it is over
// --seed      default 1
import { parseArgs } from 'node:util';
import { cacheDir } from '../scripts/setup/locations.mjs';
import { runAsCommand, setUp } from '../scripts/setup.mjs';
import { schemathesisProgram } from './fuzz/schemathesis.mjs';
import { runVitest } from './test-run/run-vitest.mjs';
import { countsLine } from './test-run/test-counts.mjs';

const options = /** @type {const} */ ({
  examples: { type: 'string' },
  minutes: { type: 'string' },
  seed: { type: 'string' },
});

await runAsCommand(async () => {
  const { values } = parseArgs({ options });
  await setUp({ demoModel: false });
  const env = {
    ...process.env,
    FUZZ_PROGRAM: await schemathesisProgram(cacheDir(process.env)),
    ...(values.examples && { FUZZ_EXAMPLES: values.examples }),
    ...(values.minutes && { FUZZ_MINUTES: values.minutes }),
    ...(values.seed && { FUZZ_SEED: values.seed }),
  };
  const { passed, counts } = await runVitest(['--config', 'vitest.fuzz.config.ts'], env);
  console.log(countsLine(counts));
  return passed ? 0 : 1;
});
