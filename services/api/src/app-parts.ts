import type { AliasStore } from '@lorasmith/artifacts';
import type { ModelSource, PullStore } from '@lorasmith/base-models';
import type { ChildProgram } from '@lorasmith/child-processes';
import type { Owner } from '@lorasmith/contracts';
import type { ExampleStore } from '@lorasmith/planning';
import type { GenerationClient, JobStore, TrainingSessionStore } from '@lorasmith/queue';
import { callerOfOwner, type ReadyCheck, type Registry, type Tracing } from '@lorasmith/service-kit';
import type { BundleStore } from '@lorasmith/storage';
import type { FastifyBaseLogger } from 'fastify';
import type { Access } from './access/access.js';
import { createByteQuota, type StoredBytes } from './access/byte-quota.js';
import { ConcurrencyLimit } from './access/concurrency-limit.js';
import type { HubTokens } from './access/hub-tokens.js';
import { createAdapterReservation } from './access/limits.js';
import { createRegistryClient, type RegistryAddress, type RegistryClient } from './adapters/registry-client.js';
import { AliasDeliveries } from './aliases/alias-deliveries.js';
import { AliasMoves } from './aliases/alias-moves.js';
import { HeldOutLoss } from './aliases/held-out-loss.js';
import { ComparisonRequests } from './comparisons/comparison-requests.js';
import { BoundedReader } from './datasets/bounded-reader.js';
import { createDatasetChanges, DatasetCatalog } from './datasets/dataset-catalog.js';
import type { DatasetLimits } from './datasets/dataset-checker.js';
import { createRowViews } from './datasets/dataset-routes.js';
import type { RowChecks } from './datasets/row-checks.js';
import { TokenPreparations } from './datasets/token-preparations.js';
import type { DeliveryKinds } from './deliveries/delivery-kind.js';
import { DeliveryRequests } from './deliveries/delivery-requests.js';
import type { NamedAdapters } from './deliveries/kinds/name.js';
import type { Judges } from './grading/judges.js';
import { JobContinuation } from './jobs/continue-job.js';
import type { Preflight } from './jobs/preflight.js';
import { JobSubmission } from './jobs/submit-job.js';
import type { JudgeClient } from './judging/judge-client.js';
import type { GenerationLimits } from './openai/generation-request.js';
import { ModelDirectory } from './openai/model-directory.js';
import type { Site } from './page-plugin.js';
import { SweepSubmission } from './sweeps/submit-sweep.js';
import type { WebhookConfig } from './webhooks/webhook-config.js';

export interface AppDependencies {
  logger: FastifyBaseLogger;
  metrics: Registry;
  tracing: Tracing;
  access: Access;
  jobs: JobStore;
  datasets: BundleStore;
  adapters: BundleStore;
  /** Names of adapters. */
  aliases: AliasStore;
  /** Tokenized datasets. */
  examples: ExampleStore;
  preflight: Pick<Preflight, 'report' | 'check' | 'hasTokens' | 'prepare' | 'viewRows'>;
  baseModels: ModelSource;
  pulls: PullStore;
  registry: RegistryAddress;
  datasetLimits: DatasetLimits;
  /** The program that reads Parquet and zstd files. */
  fileReader: ChildProgram;
  /** The threads that check uploaded rows. */
  rowChecks: Pick<RowChecks, 'check'>;
  /** Time limit for a request to arrive, including uploads. */
  requestTimeoutMs: number;
  /** The path under which a proxy serves the api, as `/lora`; empty: none. */
  publicPath: string;
  /** Heartbeat interval of event streams. */
  heartbeatMs: number;
  /** A request is ended if nothing of its body arrives for this time. */
  uploadStallMs: number;
  /** A download is ended if its client reads no bytes for this time. */
  downloadStallMs: number;
  /** Requests for text, to the workers. */
  generation: GenerationClient;
  /** The models that clients train, to the workers. */
  trainingSessions: TrainingSessionStore;
  snapshots: BundleStore;
  /** Bounds of requests for text. */
  generationLimits: GenerationLimits & { waitMs: number; queueMs: number };
  /** The ways in which adapters are delivered, of which one moves names. */
  deliveryKinds: (names: NamedAdapters) => DeliveryKinds;
  /** The tokens with which keys deliver to the Hugging Face hub. */
  hubTokens: HubTokens;
  /** The settings of webhooks. */
  webhooks: WebhookConfig;
  /** The models that score answers. */
  judges: Pick<Judges, 'check'>;
  /** The models that judge comparisons. */
  judgeClient: Pick<JudgeClient, 'check'>;
  /** The addresses that an import from OpenAI may name. */
  importUrls: readonly string[];
  /** The memory of the largest machine that would be started if a job needed it, in bytes; null: none is. */
  startedMemory: number | null;
  /** The data folder, which the registry may share. */
  dataDir: string;
  /** The web page; null: it is not built. */
  site: Site | null;
  /** The checks of `/ready`. */
  readyChecks: Readonly<Record<string, ReadyCheck>>;
}

export type AppParts = ReturnType<typeof createAppParts>;

/** The parts that several routes use, and what works beside them, each made once. */
export function createAppParts(dependencies: AppDependencies) {
  const { jobs, adapters, aliases, baseModels, preflight, examples, tracing, webhooks, judges, startedMemory } =
    dependencies;
  const { reservations } = dependencies.access;
  const registry = createRegistryClient(dependencies.registry);
  const catalog = new DatasetCatalog({
    store: dependencies.datasets,
    limits: dependencies.datasetLimits,
    reader: new BoundedReader(dependencies.fileReader),
    checks: dependencies.rowChecks,
  });
  const datasetQuota = createByteQuota({ what: 'datasets', reservations, stored: (owner) => catalog.stored(owner) });
  const adapterQuota = createByteQuota({
    what: 'adapters',
    reservations,
    stored: (owner) => adapterBytes(owner, { jobs, registry }),
  });
  const adapterReservation = createAdapterReservation(adapterQuota);
  const preparations = new TokenPreparations({
    catalog,
    baseModels,
    preflight,
    examples,
    log: dependencies.logger,
  });
  const views = createRowViews({ catalog, baseModels, preflight, preparations });
  const { generation, generationLimits, judgeClient } = dependencies;
  const losses = new HeldOutLoss({ catalog, views, generation, waitMs: generationLimits.waitMs });
  const aliasMoves = new AliasMoves({ aliases, adapters, baseModels, jobs, losses });
  const deliveryKinds = dependencies.deliveryKinds({
    adapterOf: async (of) => (await aliases.get(of))?.adapter ?? null,
    check: async ({ name, guard = null }, owner) => aliasMoves.check(name, guard, callerOfOwner(owner)),
    async move(of, { adapter, guard, signal }) {
      const { owner } = of;
      const by = { caller: callerOfOwner(owner), key: owner, signal };
      await aliasDeliveries.follow(await aliasMoves.point(of, { adapter, guard }, by));
    },
  });
  const deliveries = new DeliveryRequests({ store: jobs.deliveries, adapters, kinds: deliveryKinds });
  const aliasDeliveries = new AliasDeliveries({
    aliases,
    requests: deliveries,
    store: jobs.deliveries,
    log: dependencies.logger,
  });
  const submission = new JobSubmission({
    jobs,
    catalog,
    adapters,
    aliases,
    baseModels,
    preflight,
    preparations,
    adapterReservation,
    tracing,
    webhooks,
    judges,
    deliveries,
    startedMemory,
  });
  const directory = new ModelDirectory({ adapters, jobs, aliases, baseModels, registry });
  return {
    registry,
    deliveries,
    deliveryKinds,
    catalog,
    adapterQuota,
    preparations,
    submission,
    sweepSubmission: new SweepSubmission({
      sweeps: jobs.sweeps,
      submission,
      adapterReservation,
      tracing,
      webhooks,
      deliveries,
    }),
    continuation: new JobContinuation({ jobs, catalog, adapterReservation }),
    changes: createDatasetChanges({ catalog, jobs, examples, quota: datasetQuota }),
    views,
    directory,
    aliasDeliveries,
    comparisonRequests: new ComparisonRequests({
      ...{ store: jobs.comparisons, catalog, models: directory, adapters, baseModels },
      ...{ judges: judgeClient, limits: generationLimits },
    }),
    aliasMoves,
    comparisons: new ConcurrencyLimit('comparisons of adapters'),
    /** The limit of downloads and imports. */
    transfers: new ConcurrencyLimit('downloads and imports'),
  };
}

/** The bytes of an owner's adapters and of all adapters, with those that unfinished jobs have reserved. */
async function adapterBytes(
  owner: Owner,
  { jobs, registry }: { jobs: JobStore; registry: RegistryClient },
): Promise<StoredBytes> {
  // In this order, a job that ends in between is counted twice instead of not at all.
  const reserved = await jobs.adapterBytes.reserved(owner);
  const stored = await registry.storedBytes(owner);
  return { own: reserved.own + stored.own, total: reserved.total + stored.total, things: stored.things };
}
