#!/usr/bin/env node
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ProductError } from '@lorasmith/contracts';
import { importGguf } from './import-gguf.js';

const USAGE = `Usage: import-gguf FILE --name NAME [--models-dir DIR]

Converts a GGUF file (architecture llama) to a base-model folder DIR/NAME, with weights in bfloat16.
DIR defaults to MODELS_DIR, or ./models if that is not set.`;

const PROGRESS_EVERY_MS = 1000;

async function main(): Promise<void> {
  const { file, name, modelsDir } = readArguments();
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
  }
  let shownAt = 0;
  const startedAt = Date.now();
  const folder = await importGguf({
    file,
    name,
    modelsDir,
    signal: stop.signal,
    onProgress: ({ tensor, done, total }) => {
      if (done < total && Date.now() - shownAt < PROGRESS_EVERY_MS) return;
      shownAt = Date.now();
      process.stderr.write(
        `${String(Math.floor((100 * done) / total)).padStart(3)} %  ${done} of ${total} tensors  ${tensor}\n`,
      );
    },
  });
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const size = `${folder.parameterCount.toLocaleString('en')} parameters, ${(folder.weightBytes / 1e6).toFixed(0)} MB`;
  process.stderr.write(`${folder.path}: ${size}, in ${seconds} s\n`);
}

function readArguments() {
  let parsed: { values: { name?: string; 'models-dir'?: string; help?: boolean }; positionals: string[] };
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: { name: { type: 'string' }, 'models-dir': { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
  } catch (error) {
    throw new ProductError('invalid_request', `${(error as Error).message}\n\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    process.exit(0);
  }
  const [file] = positionals;
  if (positionals.length !== 1 || !file || !values.name) throw new ProductError('invalid_request', USAGE);
  // npm runs scripts at the project's root, but the path is relative to the folder of the user's shell.
  const userFolder = process.env.INIT_CWD ?? process.cwd();
  return {
    file: resolve(userFolder, file),
    name: values.name,
    modelsDir: values['models-dir']
      ? resolve(userFolder, values['models-dir'])
      : resolve(process.env.MODELS_DIR ?? 'models'),
  };
}

try {
  await main();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`import-gguf: ${error instanceof ProductError ? `${error.code}: ` : ''}${message}\n`);
  process.exitCode = 1;
}
