import { Alarm } from '@lorasmith/concurrency';
import type { WorkerStartPhase } from '@lorasmith/contracts';
import type { WorkerStarts } from '@lorasmith/queue';
import {
  checkNotRebound,
  createHttpApp,
  type FolderChecks,
  foldersReady,
  type HttpApp,
  healthRoutes,
  metricsRoute,
  type Registry,
} from '@lorasmith/service-kit';
import type { Stores } from '@lorasmith/storage';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';

const ANNOUNCE_EVERY_MS = 5_000;

/** The start of this worker, which waiting jobs give as their reason. */
export interface AnnouncedStart {
  enter(phase: WorkerStartPhase): void;
  /** The worker takes jobs from now on, or ends. */
  end(): Promise<void>;
}

/** Says again and again what the worker does, until it has started. A Redis that is away delays that, and nothing else. */
export function announceStart(starts: Pick<WorkerStarts, 'announce' | 'end'>, workerName: string): AnnouncedStart {
  const alarm = new Alarm();
  let phase: WorkerStartPhase = 'starting';
  let hasEnded = false;
  const announcing = (async () => {
    while (!hasEnded) {
      await starts.announce(workerName, phase).catch(() => {});
      if (!hasEnded) await alarm.wait(ANNOUNCE_EVERY_MS);
    }
    await starts.end(workerName).catch(() => {});
  })();
  return {
    enter(next) {
      phase = next;
      alarm.ring();
    },
    async end() {
      hasEnded = true;
      alarm.ring();
      await announcing;
    },
  };
}

export interface WorkerHealthOptions {
  redis: Redis;
  folders: Omit<FolderChecks, 'logger'>;
  stores: Pick<Stores, 'check'>;
  log: Logger;
  metrics: Registry;
  /** Why the worker takes no jobs: it is starting, or has no GPU; null when it does. */
  hindrance: () => string | null;
}

/** `/live`, `/ready` and `/metrics` of the worker, for a supervisor and Prometheus. The app does not listen yet. */
export async function buildWorkerHealth(options: WorkerHealthOptions): Promise<HttpApp> {
  const { redis, folders, stores, log, metrics, hindrance } = options;
  const app = createHttpApp({ logger: log });
  app.addHook('onRequest', async ({ headers }) => checkNotRebound(headers));
  const checks = {
    worker: async () => {
      const reason = hindrance();
      if (reason !== null) throw new Error(reason);
    },
    redis: async () => {
      // A ping would wait in the client until Redis is back, and each check would add another.
      if (redis.status !== 'ready') throw new Error('not connected');
      await redis.ping();
    },
    ...foldersReady(folders),
    store: () => stores.check(),
  };
  await app.register(healthRoutes, { checks });
  await app.register(metricsRoute, { metrics });
  return app;
}
