import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { openModelSource } from '@lorasmith/base-models';
import { WEIGHT_DIGESTS_FOLDER, WeightDigests } from '@lorasmith/model-folder';
import {
  checkFolders,
  createLogger,
  createMetrics,
  exitOnWrongConfiguration,
  foldersReady,
  listen,
  observeFolders,
  openTracing,
  readConfigOrExit,
  s3StoreOf,
  shutDownInOrder,
} from '@lorasmith/service-kit';
import { openBundleStore, openStores, writeFolderToken } from '@lorasmith/storage';
import { AdapterLibrary } from './adapters/adapter-library.js';
import { buildApp } from './app.js';
import { REGISTRY_SETTINGS } from './config.js';
import { AdapterImport } from './importing/adapter-import.js';
import { MergedModels } from './merging/merged-models.js';
import { countMerges, logMergeEvents } from './registry-metrics.js';

/** No sender has it. */
const UNKNOWN_SECRET = randomBytes(32).toString('hex');

const config = readConfigOrExit(REGISTRY_SETTINGS, process.env, ({ store }) => s3StoreOf(store));
const logger = createLogger({ service: 'registry', level: config.logLevel });

const { dataDir, modelsDir } = config;
const s3 = s3StoreOf(config.store);
const folders = { dataDir, modelsDir: s3 === null ? modelsDir : null };
await checkFolders({ ...folders, logger }).catch(exitOnWrongConfiguration);
const tracing = await openTracing({ endpoint: config.tracingEndpoint, service: 'registry', logger });
const metrics = createMetrics({ service: 'registry' });
observeFolders(metrics, { data: dataDir, models: modelsDir });

const stores = await openStores({ dataDir, s3 });
const weightDigests = path.join(dataDir, WEIGHT_DIGESTS_FOLDER);
const baseModels = await openModelSource({ modelsDir, stores, digests: new WeightDigests(weightDigests) });
const adapters = await stores.open('adapters');
// Merged models can be computed again, so they stay on this host.
const merged = await openBundleStore({ root: config.dataDir, kind: 'merged' });
const library = new AdapterLibrary({
  store: adapters,
  onBroken: (adapter, error) => logger.warn({ adapter, err: error }, 'lists omit a damaged adapter'),
});
const childProgram = (file: string) => ({
  file: fileURLToPath(new URL(file, import.meta.url)),
  environment: process.env,
});
const logMergeEvent = logMergeEvents(logger);
const countMergeEvent = countMerges(metrics);
const models = await MergedModels.open({
  adapters,
  merged,
  baseModels,
  weightDigests,
  program: childProgram('./merging/merge-child-main.js'),
  cacheBytes: config.merging.cacheBytes,
  mergeTimeoutMs: config.merging.timeoutMs,
  waitTimeoutMs: config.merging.waitMs,
  tracing,
  onEvent(event) {
    logMergeEvent(event);
    countMergeEvent(event);
  },
});

const imports = new AdapterImport({
  adapters,
  library,
  baseModels,
  weightDigests,
  program: childProgram('./importing/import-child-main.js'),
  timeoutMs: config.importing.timeoutMs,
  maxStoredBytes: config.importing.maxBytes,
});

const folderToken = await writeFolderToken(dataDir).catch((error: unknown) => {
  logger.warn({ err: error }, 'downloads are sent by the registry: the token of the data folder cannot be written');
  return null;
});
const secret = config.serviceSecret ?? (s3 === null ? (folderToken ?? UNKNOWN_SECRET) : null);
if (secret === null) {
  logger.warn('everyone who reaches the port of the registry is answered: set SERVICE_SECRET for api and registry');
} else if (secret === UNKNOWN_SECRET) {
  logger.error(
    'the registry answers nobody: DATA_DIR cannot be written, so the api cannot know its secret. Start it again.',
  );
}

const app = await buildApp({
  logger,
  metrics,
  tracing,
  library,
  adapters,
  merged,
  models,
  imports,
  secret,
  readyChecks: { ...foldersReady(folders), store: () => stores.check() },
  maxImportBytes: config.importing.maxBytes,
  downloadStallMs: config.downloadStallMs,
  dataDir,
  folderToken,
  redirectDownloads: config.redirectDownloads,
});
shutDownInOrder({
  logger,
  timeoutMs: config.shutdownTimeoutMs,
  close: async () => {
    // First, so that requests that wait for a merge are answered.
    imports.close();
    await models.close();
    await app.close();
    stores.close();
    await tracing.close();
  },
});
await listen(app, {
  ...config.http,
  maxConnections: config.maxConnections,
  hostVariable: 'REGISTRY_HOST',
  portVariable: 'REGISTRY_PORT',
}).catch(exitOnWrongConfiguration);
