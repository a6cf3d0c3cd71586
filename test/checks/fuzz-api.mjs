// npm run fuzz:api [-- --examples N] [--minutes M] [--seed S]: fuzzes the real services with Schemathesis and the OpenAPI
// document, without and with an API key.
//
// --examples  requests for each operation and phase; default 650, which takes about 20 minutes
// --minutes   time for both runs together, instead: all operations get a few requests each, again and again until it is over
// --seed      default 1
import { parseArgs } from 'node:util';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { runApiFuzzer } from './fuzz/run-api-fuzzer.mjs';
import { printEnd } from './test-run/run-vitest.mjs';

const options = /** @type {const} */ ({
  examples: { type: 'string' },
  minutes: { type: 'string' },
  seed: { type: 'string' },
});

await runAsCommand(async () => {
  const { values } = parseArgs({ options });
  await setUp({ demoModel: false });
  const run = await runApiFuzzer(values, process.env);
  printEnd(run);
  return run.passed ? 0 : 1;
});
