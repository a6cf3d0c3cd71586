import { access, constants } from 'node:fs/promises';
import { createHttpApp, type HttpApp, healthRoutes } from '@lorasmith/service-kit';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';

export interface WorkerHealthOptions {
  redis: Redis;
  dataDir: string;
  modelsDir: string;
  log: Logger;
}

/** `/live` and `/ready` of the worker, for whoever supervises its process. It does not listen yet. */
export async function buildWorkerHealth({ redis, dataDir, modelsDir, log }: WorkerHealthOptions): Promise<HttpApp> {
  const app = createHttpApp({ logger: log });
  const checks = {
    redis: async () => {
      // A ping would wait in the client until Redis is back, and each check would leave one more there.
      if (redis.status !== 'ready') throw new Error('not connected');
      await redis.ping();
    },
    data: () => access(dataDir, constants.W_OK),
    models: () => access(modelsDir),
  };
  await app.register(healthRoutes, { checks });
  return app;
}
