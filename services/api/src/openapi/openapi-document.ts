import { ALIASES_KIND, AliasStore } from '@lorasmith/artifacts';
import { createPullStore, localModels } from '@lorasmith/base-models';
import { openExampleStore } from '@lorasmith/planning';
import { createGenerationClient, createJobStore, TrainingSessionStore } from '@lorasmith/queue';
import { createLogger, NO_TRACING } from '@lorasmith/service-kit';
import { openBundleStore, openLocalAnnotations } from '@lorasmith/storage';
import { Redis } from 'ioredis';
import { OPEN_ACCESS } from '../access/access.js';
import { HubTokens } from '../access/hub-tokens.js';
import { registryAt } from '../adapters/registry-client.js';
import { createApiMetrics, NO_WORKER_CLASSES } from '../api-metrics.js';
import { buildApp } from '../app.js';
import { type AppDependencies, createAppParts } from '../app-parts.js';
import { NO_DELIVERIES } from '../deliveries/delivery-kind.js';
import { deliveryKinds } from '../deliveries/delivery-kinds.js';
import { NO_WEBHOOKS } from '../webhooks/webhook-config.js';

const absent = () => Promise.reject(new Error('not available'));

/**
 * The OpenAPI document of the api as JSON text. It is generated from the routes of the real application, which here neither
 * listens nor connects to anything.
 *
 * @param folder - An empty folder, for the stores.
 */
export async function openapiDocument(folder: string): Promise<string> {
  const redis = new Redis({ lazyConnect: true });
  const jobs = createJobStore({ redis });
  const generation = createGenerationClient({ redis, prefix: '' });
  const trainingSessions = new TrainingSessionStore({ redis, prefix: '' });
  const hubTokens = new HubTokens({ redis, prefix: '', secretsKey: null });
  const dependencies: AppDependencies = {
    logger: createLogger({ service: 'openapi', level: 'silent' }),
    metrics: createApiMetrics({ jobs, generation, redis, dataDir: folder, workerClasses: NO_WORKER_CLASSES }),
    tracing: NO_TRACING,
    access: OPEN_ACCESS,
    jobs,
    datasets: await openBundleStore({ root: folder, kind: 'datasets' }),
    adapters: await openBundleStore({ root: folder, kind: 'adapters' }),
    aliases: new AliasStore(await openLocalAnnotations({ root: folder, kind: ALIASES_KIND })),
    examples: await openExampleStore({ dataDir: folder, maxBytes: 0 }),
    preflight: {
      report: absent,
      check: absent,
      hasTokens: absent,
      viewRows: absent,
      prepare: absent,
    },
    baseModels: localModels(folder),
    pulls: createPullStore({ redis, prefix: '' }),
    registry: registryAt('http://127.0.0.1', null, '/'),
    fileReader: { file: '', environment: {} },
    rowChecks: { check: () => Promise.reject(new Error('not available')) as never },
    datasetLimits: { maxBytes: 1, maxLineBytes: 1, maxRows: 1 },
    requestTimeoutMs: 1_000,
    publicPath: '',
    heartbeatMs: 1_000,
    uploadStallMs: 1_000,
    downloadStallMs: 1_000,
    generation,
    trainingSessions,
    snapshots: await openBundleStore({ root: folder, kind: 'snapshots' }),
    generationLimits: { maxTokens: 1, waitMs: 1, queueMs: 1 },
    deliveryKinds: (names) =>
      deliveryKinds({ config: NO_DELIVERIES, source: { files: absent, read: absent }, hubTokens, names }),
    hubTokens,
    webhooks: NO_WEBHOOKS,
    judges: { check: async () => {} },
    judgeClient: { check: async () => {} },
    importUrls: [],
    startedMemory: null,
    dataDir: '.',
    site: null,
    readyChecks: {},
  };
  const app = await buildApp(dependencies, createAppParts(dependencies));
  try {
    await app.ready();
    return `${JSON.stringify(app.swagger(), null, 2)}\n`;
  } finally {
    await app.close();
    await jobs.close();
    generation.close();
    trainingSessions.close();
    redis.disconnect();
  }
}
