// npm run fuzz:readers -- --seconds N [--reader NAME] [--seed N]: coverage-guided fuzzing of the readers of external files.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { runProgram } from './run-vitest.mjs';

const PROGRAM = fileURLToPath(new URL('fuzz/readers/fuzz-reader.mjs', import.meta.url));
const READERS = [
  ...['safetensors', 'tar', 'jsonl', 'csv', 'zstd', 'parquet', 'config'],
  ...['quantized', 'quantized-experts', 'scaled', 'mxfp4', 'tinker'],
];

await runAsCommand(async () => {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      reader: { type: 'string', multiple: true, default: READERS },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    },
  });
  await setUp({ demoModel: false });
  console.log(`Each reader for ${values.seconds} s, seed ${values.seed}`);
  let failed = false;
  for (const reader of values.reader) {
    const corpus = path.join(ROOT_DIR, 'test/fuzz-readers/corpus', reader);
    const args = [reader, values.seconds, values.seed, corpus, path.join(ROOT_DIR, 'fuzz-finds')];
    failed = !(await runProgram(PROGRAM, args, process.env)) || failed;
  }
  return failed ? 1 : 0;
});
