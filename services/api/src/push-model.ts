#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { MODELS_KIND, pushModel } from '@lorasmith/base-models';
import { ProductError } from '@lorasmith/contracts';
import { dataDir, modelsDir, readConfig, s3StoreOf, storeSettings } from '@lorasmith/service-kit';
import { openStores } from '@lorasmith/storage';

const USAGE = `Usage: push-model NAME [--replace]

Uploads the base model MODELS_DIR/NAME to the S3 store of the services (STORE, S3_BUCKET and their other variables).
--replace: replaces a model of the same name.`;

async function main(): Promise<void> {
  const { name, replace } = readArguments();
  const config = readConfig({ dataDir, modelsDir, store: storeSettings }, process.env);
  const stores = await openStores({ dataDir: config.dataDir, s3: s3StoreOf(config.store) });
  if (stores.s3 === null) {
    const message =
      'The store is a local folder, so models are used from MODELS_DIR. Set STORE=s3 and S3_BUCKET to use a bucket.';
    throw new ProductError('invalid_configuration', message);
  }
  try {
    const store = await stores.s3.open(MODELS_KIND);
    const startedAt = Date.now();
    const stored = await pushModel({ store, modelsDir: config.modelsDir, name, replace });
    if (stored === null) {
      throw new ProductError('conflict', `The store already has a base model ${name}. Use --replace to replace it.`);
    }
    const megabytes = stored.files.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
    process.stdout.write(`${name}: ${stored.files.length} files, ${megabytes.toFixed(0)} MB, in ${seconds} s\n`);
    for (const { name: file, sha256 } of stored.files) process.stdout.write(`${sha256}  ${file}\n`);
  } finally {
    stores.close();
  }
}

function readArguments(): { name: string; replace: boolean } {
  const options = { replace: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const;
  let parsed: { values: { replace?: boolean; help?: boolean }; positionals: string[] };
  try {
    parsed = parseArgs({ allowPositionals: true, options });
  } catch (error) {
    throw new ProductError('invalid_request', `${(error as Error).message}\n\n${USAGE}`);
  }
  if (parsed.values.help) {
    process.stdout.write(`${USAGE}\n`);
    process.exit(0);
  }
  const [name] = parsed.positionals;
  if (name === undefined || parsed.positionals.length > 1) throw new ProductError('invalid_request', USAGE);
  return { name, replace: parsed.values.replace ?? false };
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof ProductError ? error.message : (error as Error).stack}\n`);
  process.exitCode = 1;
});
