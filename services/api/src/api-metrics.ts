import { JOB_STATUSES } from '@lorasmith/contracts';
import {
  type ClassWork,
  type GenerationClient,
  type JobStore,
  type QueueStatus,
  type WorkerClass,
  workByClass,
} from '@lorasmith/queue';
import {
  Counter,
  createMetrics,
  Gauge,
  observeFolders,
  observeRedis,
  oncePerScrape,
  type Registry,
} from '@lorasmith/service-kit';

export interface ApiMetricsOptions {
  jobs: Pick<JobStore, 'queueStatus'> & {
    queue: Pick<JobStore['queue'], 'work'>;
    deliveries: Pick<JobStore['deliveries'], 'count' | 'endedCounts'>;
  };
  generation: Pick<GenerationClient, 'waiting'>;
  redis: Parameters<typeof observeRedis>[1];
  dataDir: string;
  /** The workers that are started as they are needed. */
  workerClasses: { classes: readonly WorkerClass[]; secondsPerWorker: number };
}

export const NO_WORKER_CLASSES: ApiMetricsOptions['workerClasses'] = { classes: [], secondsPerWorker: 1 };

/** The metrics of the api and of the queue, which belongs to no single process. */
export function createApiMetrics(options: ApiMetricsOptions): Registry {
  const { jobs, generation, redis, dataDir, workerClasses } = options;
  const metrics = createMetrics({ service: 'api' });
  observeFolders(metrics, { data: dataDir });
  observeRedis(metrics, redis);
  observeQueue(metrics, jobs);
  observeGeneration(metrics, generation);
  observeDeliveries(metrics, jobs.deliveries);
  if (workerClasses.classes.length > 0) observeWorkerClasses(metrics, { queue: jobs.queue, redis, workerClasses });
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

/** The most jobs that a worker trains at once, where none runs: the default of its setting. */
const USUAL_SLOTS = 8;

function observeWorkerClasses(
  metrics: Registry,
  {
    queue,
    redis,
    workerClasses,
  }: Pick<ApiMetricsOptions['jobs'], 'queue'> & Pick<ApiMetricsOptions, 'redis' | 'workerClasses'>,
): void {
  const read = oncePerScrape(async (): Promise<Map<string, ClassWork> | null> => {
    // The queue would wait for it.
    if (redis.status !== 'ready') return null;
    try {
      const { jobs, slots } = await queue.work();
      return workByClass(jobs, { ...workerClasses, slots: slots ?? USUAL_SLOTS });
    } catch {
      // Without Redis there are no figures, because zero would end all workers.
      return null;
    }
  });
  const states = ['waiting', 'running'] as const;
  for (const [figure, help] of [
    ['jobs', 'Jobs that wait for a class of workers, and that it trains.'],
    ['tokens', 'Tokens that these jobs will still read, of those that are planned.'],
    ['seconds', 'Seconds of training that remain of these jobs, each alone, where they are known.'],
  ] as const) {
    new Gauge({
      name: `lorasmith_worker_class_${figure}`,
      help,
      labelNames: ['class', 'state'],
      registers: [metrics],
      async collect() {
        const found = await read();
        this.reset();
        for (const [name, work] of found ?? []) {
          for (const state of states) this.set({ class: name, state }, work[state][figure]);
        }
      },
    });
  }
  new Gauge({
    name: 'lorasmith_worker_class_wanted',
    help: 'Workers of a class that have something to do: one for each WORKER_CLASS_SECONDS of work, one at most for each job.',
    labelNames: ['class'],
    registers: [metrics],
    async collect() {
      const found = await read();
      this.reset();
      for (const [name, { workersWanted }] of found ?? []) this.set({ class: name }, workersWanted);
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

function observeDeliveries(metrics: Registry, deliveries: Pick<JobStore['deliveries'], 'count' | 'endedCounts'>): void {
  new Counter({
    name: 'lorasmith_deliveries_ended_total',
    help: 'Deliveries that have ended, by kind and status, of all api processes together.',
    labelNames: ['kind', 'status'],
    registers: [metrics],
    async collect() {
      const counts = await deliveries.endedCounts().catch(() => null);
      this.reset();
      for (const { kind, status, count } of counts ?? []) this.inc({ kind, status }, count);
    },
  });
  new Gauge({
    name: 'lorasmith_deliveries_open',
    help: 'Deliveries that have not ended: waiting, running, or to be tried again.',
    // Only a gauge with a label can be removed while Redis is unavailable.
    labelNames: ['queue'],
    registers: [metrics],
    async collect() {
      const open = await deliveries.count().catch(() => null);
      this.reset();
      if (open !== null) this.set({ queue: 'deliveries' }, open);
    },
  });
}
