import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ALIASES_KIND, AliasStore } from '@lorasmith/artifacts';
import { createPullStore, localModels } from '@lorasmith/base-models';
import { openExampleStore } from '@lorasmith/planning';
import { createGenerationClient, createJobStore, type JobStore, TrainingSessionStore } from '@lorasmith/queue';
import { connectRedis, createLogger, type HttpApp, NO_TRACING, redisReady } from '@lorasmith/service-kit';
import { type BundleStore, openBundleStore, openLocalAnnotations } from '@lorasmith/storage';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { OPEN_ACCESS } from '../src/access/access.js';
import { HubTokens } from '../src/access/hub-tokens.js';
import { createRegistryClient, registryAt } from '../src/adapters/registry-client.js';
import { type ApiMetricsOptions, createApiMetrics, NO_WORKER_CLASSES } from '../src/api-metrics.js';
import { buildApp } from '../src/app.js';
import { type AppDependencies, type AppParts, createAppParts } from '../src/app-parts.js';
import { RowChecks } from '../src/datasets/row-checks.js';
import { registryFiles } from '../src/deliveries/adapter-source.js';
import { NO_DELIVERIES } from '../src/deliveries/delivery-kind.js';
import { deliveryKinds } from '../src/deliveries/delivery-kinds.js';
import { Judges } from '../src/grading/judges.js';
import { Preflight } from '../src/jobs/preflight.js';
import { PreflightThreads } from '../src/jobs/preflight-threads.js';
import { JudgeClient } from '../src/judging/judge-client.js';
import { ModelDirectory } from '../src/openai/model-directory.js';
import { NO_WEBHOOKS } from '../src/webhooks/webhook-config.js';

// The compiled file, because a thread cannot run TypeScript.
const THREAD_FILE = fileURLToPath(new URL('../dist/jobs/preflight-thread.js', import.meta.url));
const CHECK_THREAD = fileURLToPath(new URL('../dist/datasets/check-thread.js', import.meta.url));
const FILE_READER = fileURLToPath(new URL('../dist/datasets/read-file-main.js', import.meta.url));

// All apis of this process have the same threads, each of which takes half a second to start. They end with the process.
const planners = new PreflightThreads(THREAD_FILE, 1);
const rowChecks = new RowChecks(CHECK_THREAD);

export interface RealApi {
  app: HttpApp;
  parts: AppParts;
  jobs: JobStore;
  datasets: BundleStore;
  adapters: BundleStore;
  aliases: AliasStore;
  /** The store of tokens, which has no SECRETS_KEY. */
  hubTokens: HubTokens;
  /** Contains the data and `models/tiny-llama`. */
  folder: string;
  stop(): Promise<void>;
}

export interface RealApiOptions {
  redisUrl: string;
  prefix?: string;
  preflightTimeoutMs?: number;
  /** @defaultValue enough for every dataset of the tests, on a busy machine, too */
  preflightBudgetMs?: number;
  workerClasses?: ApiMetricsOptions['workerClasses'];
  changes?: Partial<AppDependencies>;
}

/** The api as in main.ts, with a real Redis, its own folder and a real preflight thread. It does not listen. */
export async function startRealApi(options: RealApiOptions): Promise<RealApi> {
  if (!existsSync(THREAD_FILE)) throw new Error(`${THREAD_FILE} is not built: run "pnpm build" first`);
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-api-'));
  const modelsDir = path.join(folder, 'models');
  await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
  const logger = createLogger({ service: 'api', level: 'silent' });
  const redis = connectRedis({ url: options.redisUrl, whenUnavailable: 'fail-fast', name: 'test', logger });
  await redisReady(redis, 300);
  const jobs = createJobStore({ redis, ...(options.prefix === undefined ? {} : { prefix: options.prefix }) });
  const generation = createGenerationClient({ redis, prefix: options.prefix ?? 'lorasmith:' });
  const trainingSessions = new TrainingSessionStore({ redis, prefix: options.prefix ?? 'lorasmith:' });
  const datasets = await openBundleStore({ root: folder, kind: 'datasets' });
  const adapters = await openBundleStore({ root: folder, kind: 'adapters' });
  const aliases = new AliasStore(await openLocalAnnotations({ root: folder, kind: ALIASES_KIND }));
  const tokens = { dataDir: folder, maxBytes: 2 ** 30 };
  const preflight = new Preflight({
    threads: planners,
    maxWaiting: 4,
    timeoutMs: options.preflightTimeoutMs ?? 20_000,
    budgetMs: options.preflightBudgetMs ?? 20_000,
    tokens,
  });
  const baseModels = localModels(modelsDir);
  const registry = registryAt('http://127.0.0.1:9', null, folder);
  const hubTokens = new HubTokens({ redis, prefix: options.prefix ?? 'lorasmith:', secretsKey: null });
  const judgeClient = new JudgeClient({
    config: { servers: [], apiKey: null },
    models: new ModelDirectory({ adapters, jobs, aliases, baseModels, registry: createRegistryClient(registry) }),
    generation,
    limits: { maxTokens: 100 },
  });
  const dependencies: AppDependencies = {
    logger,
    metrics: createApiMetrics({
      jobs,
      generation,
      redis,
      dataDir: folder,
      workerClasses: options.workerClasses ?? NO_WORKER_CLASSES,
    }),
    tracing: NO_TRACING,
    access: OPEN_ACCESS,
    jobs,
    datasets,
    adapters,
    aliases,
    examples: await openExampleStore(tokens),
    preflight,
    baseModels,
    pulls: createPullStore({ redis, prefix: options.prefix ?? 'lorasmith:' }),
    registry,
    fileReader: { file: FILE_READER, environment: { PATH: process.env.PATH } },
    rowChecks,
    datasetLimits: { maxBytes: 200_000, maxLineBytes: 20_000, maxRows: 1_000 },
    requestTimeoutMs: 60_000,
    publicPath: '',
    heartbeatMs: 200,
    uploadStallMs: 60_000,
    downloadStallMs: 60_000,
    generation,
    trainingSessions,
    snapshots: await openBundleStore({ root: folder, kind: 'snapshots' }),
    generationLimits: { maxTokens: 100, waitMs: 5_000, queueMs: 5_000 },
    hubTokens,
    deliveryKinds: (names) => {
      const source = registryFiles(registryAt('http://127.0.0.1:9', null, folder));
      return deliveryKinds({ config: NO_DELIVERIES, hubTokens, source, names });
    },
    webhooks: NO_WEBHOOKS,
    judges: new Judges(judgeClient),
    judgeClient,
    importUrls: [],
    startedMemory: null,
    dataDir: folder,
    site: null,
    readyChecks: { redis: () => redis.ping() },
    ...options.changes,
  };
  const parts = createAppParts(dependencies);
  const app = await buildApp(dependencies, parts);
  await app.ready();
  return {
    app,
    parts,
    jobs,
    datasets,
    adapters,
    aliases,
    hubTokens,
    folder,
    async stop() {
      await app.close();
      await jobs.close();
      generation.close();
      trainingSessions.close();
      redis.disconnect();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** JSONL of `count` rows for training a language model. */
export function promptRows(count: number, label = 'row'): string {
  const rows = Array.from({ length: count }, (_, i) => ({ prompt: `${label} ${i}`, completion: `answer ${i}` }));
  return `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`;
}
