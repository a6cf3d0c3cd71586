import { JOB_STATUSES } from '@lorasmith/contracts';
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
  redis: Parameters<typeof observeRedis>[1];
  dataDir: string;
}

/** What the api tells Prometheus: besides itself, the queue, which belongs to no process. */
export function createApiMetrics({ jobs, redis, dataDir }: ApiMetricsOptions): Registry {
  const metrics = createMetrics({ service: 'api' });
  observeFolders(metrics, { data: dataDir });
  observeRedis(metrics, redis);
  observeQueue(metrics, jobs);
  return metrics;
}

function observeQueue(metrics: Registry, jobs: Pick<JobStore, 'queueStatus'>): void {
  // Without Redis there are no figures, which is not the same as no jobs.
  const look = oncePerScrape(() => jobs.queueStatus().catch((): QueueStatus | null => null));
  new Gauge({
    name: 'lorasmith_jobs',
    help: 'Jobs on record, by status. Those that were deleted do not count.',
    labelNames: ['status'],
    registers: [metrics],
    async collect() {
      const status = await look();
      this.reset();
      if (status === null) return;
      for (const name of JOB_STATUSES) this.set({ status: name }, status.jobs[name]);
    },
  });
  new Gauge({
    name: 'lorasmith_queue_oldest_seconds',
    help: 'Time since the job that has waited longest for a worker was sent; 0 when none waits.',
    // Without a label a gauge cannot be taken away while Redis is.
    labelNames: ['queue'],
    registers: [metrics],
    async collect() {
      const status = await look();
      this.reset();
      if (status === null) return;
      const since = status.oldestQueuedAt?.getTime() ?? Date.now();
      this.set({ queue: 'training' }, Math.max(0, (Date.now() - since) / 1000));
    },
  });
}
