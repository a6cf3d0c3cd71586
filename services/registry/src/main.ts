import { fileURLToPath } from 'node:url';
import { createLogger, readConfigOrExit, shutDownInOrder } from '@lorasmith/service-kit';
import { openBundleStore } from '@lorasmith/storage';
import { AdapterLibrary } from './adapters/adapter-library.js';
import { buildApp } from './app.js';
import { REGISTRY_SETTINGS } from './config.js';
import { AdapterImport } from './importing/adapter-import.js';
import { logMergeEvents } from './merging/log-merge-events.js';
import { MergedModels } from './merging/merged-models.js';

const config = readConfigOrExit(REGISTRY_SETTINGS, process.env);
const logger = createLogger({ service: 'registry', level: config.logLevel });

const adapters = await openBundleStore({ root: config.dataDir, kind: 'adapters' });
const merged = await openBundleStore({ root: config.dataDir, kind: 'merged' });
const library = new AdapterLibrary({
  store: adapters,
  onBroken: (adapter, error) => logger.warn({ adapter, err: error }, 'an adapter is left out of lists'),
});
const childProgram = (file: string) => ({
  file: fileURLToPath(new URL(file, import.meta.url)),
  environment: {
    ...process.env,
    // TensorFlow would take all memory of the GPU from the trainer.
    CUDA_VISIBLE_DEVICES: '-1',
    TF_CPP_MIN_LOG_LEVEL: process.env.TF_CPP_MIN_LOG_LEVEL ?? '2',
  },
});
const models = await MergedModels.open({
  adapters,
  merged,
  modelsDir: config.modelsDir,
  program: childProgram('./merging/merge-child-main.js'),
  cacheBytes: config.merging.cacheBytes,
  mergeTimeoutMs: config.merging.timeoutMs,
  waitTimeoutMs: config.merging.waitMs,
  onEvent: logMergeEvents(logger),
});

const imports = new AdapterImport({
  adapters,
  modelsDir: config.modelsDir,
  program: childProgram('./importing/import-child-main.js'),
  timeoutMs: config.importing.timeoutMs,
});

const app = await buildApp({
  logger,
  library,
  adapters,
  merged,
  models,
  imports,
  modelsDir: config.modelsDir,
  maxImportBytes: config.importing.maxBytes,
});
shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    // First, so that whoever waits for a merge is answered.
    imports.close();
    await models.close();
    await app.close();
  },
});
await app.listen({ host: config.http.host, port: config.http.port });
