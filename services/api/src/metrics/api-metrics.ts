import { JOB_STATUSES } from '@lorasmith/contracts';
import type { GenerationClient } from '@lorasmith/generation-queue';
import type { JobStore, QueueStatus } from '@lorasmith/job-store';
import {
  createMetrics,
  Gauge,
  observeFolders,
  observeRedis,
  oncePerScrape,
  type Registry,
} from '@lorasmith/service-kit';

export interface ApiMetricsOptions {
  jobs: Pick<JobStore, 'queueStatus'>;
  generation: Pick<GenerationClient, 'waiting'>;
  redis: Parameters<typeof observeRedis>[1];
  dataDir: string;
}

/** The metrics of the api and of the queue, which belongs to no single process. */
export function createApiMetrics({ jobs, generation, redis, dataDir }: ApiMetricsOptions): Registry {
  const metrics = createMetrics({ service: 'api' });
  observeFolders(metrics, { data: dataDir });
  observeRedis(metrics, redis);
  observeQueue(metrics, jobs);
  observeGeneration(metrics, generation);
  return metrics;
}

function observeQueue(metrics: Registry, jobs: Pick<JobStore, 'queueStatus'>): void {
  // Without Redis there are no figures, because zero would mean that there are no jobs.
  const readStatus = oncePerScrape(() => jobs.queueStatus().catch((): QueueStatus | null => null));
  new Gauge({
    name: 'lorasmith_jobs',
    help: 'Jobs by status, without deleted ones.',
    labelNames: ['status'],
    registers: [metrics],
    async collect() {
      const status = await readStatus();
      this.reset();
      if (status === null) return;
      for (const name of JOB_STATUSES) this.set({ status: name }, status.jobs[name]);
    },
  });
  new Gauge({
    name: 'lorasmith_queue_oldest_seconds',
    help: 'Age of the oldest job that waits for a worker; 0 if none waits.',
    // Only a gauge with a label can be removed while Redis is unavailable.
    labelNames: ['queue'],
    registers: [metrics],
    async collect() {
      const status = await readStatus();
      this.reset();
      if (status === null) return;
      const since = status.oldestQueuedAt?.getTime() ?? Date.now();
      this.set({ queue: 'training' }, Math.max(0, (Date.now() - since) / 1000));
    },
  });
}

function observeGeneration(metrics: Registry, generation: Pick<GenerationClient, 'waiting'>): void {
  new Gauge({
    name: 'lorasmith_generation_requests_waiting',
    help: 'Requests for text that wait for a worker.',
    labelNames: ['queue'],
    registers: [metrics],
    async collect() {
      const waiting = await generation.waiting().catch(() => null);
      this.reset();
      if (waiting !== null) this.set({ queue: 'generation' }, waiting);
    },
  });
}
