import { ProductError } from '@lorasmith/contracts';
import { Counter, Gauge, Histogram, type Registry } from '@lorasmith/service-kit';
import type { FastifyBaseLogger } from 'fastify';
import type { MergedModels, MergeEvent } from './merging/merged-models.js';

/** A started download of an adapter or its merged model. */
export interface DownloadEvent {
  adapter: string;
  /** The job that trained the adapter; null for an imported adapter. */
  job: string | null;
  weights: 'adapter' | 'merged' | 'gguf';
  bytes: number;
}

/** Buckets from a model of a few layers to hundreds of gigabytes. */
const MERGE_SECONDS = [1, 5, 20, 60, 300, 1_200, 3_600];

/** Counts the events of merges. */
export function countMerges(metrics: Registry): (event: MergeEvent) => void {
  const registers = [metrics];
  const merges = new Counter({
    name: 'lorasmith_merges_total',
    help: 'Finished merges, by outcome and, if failed, error code.',
    labelNames: ['outcome', 'code'],
    registers,
  });
  // Prometheus sees no increase in a series that starts at 1.
  merges.inc({ outcome: 'succeeded', code: '' }, 0);
  for (const code of ['merge_crashed', 'internal_error', 'timeout', 'storage_full']) {
    merges.inc({ outcome: 'failed', code }, 0);
  }
  const seconds = new Histogram({
    name: 'lorasmith_merge_seconds',
    help: 'Duration of successful merges.',
    buckets: MERGE_SECONDS,
    registers,
  });
  const requests = new Counter({
    name: 'lorasmith_merged_cache_requests_total',
    help: 'Requests for a merged model that was on disk (hit) or had to be merged (miss).',
    labelNames: ['result'],
    registers,
  });
  for (const result of ['hit', 'miss']) requests.inc({ result }, 0);
  const evicted = new Counter({
    name: 'lorasmith_merged_cache_evictions_total',
    help: 'Merged models that were removed to free space for others.',
    registers,
  });
  return (event) => {
    switch (event.type) {
      case 'merged-model-requested':
        return requests.inc({ result: event.found ? 'hit' : 'miss' });
      case 'merged-model-evicted':
        return evicted.inc();
      case 'merge-finished':
        merges.inc({ outcome: 'succeeded', code: '' });
        return seconds.observe(event.seconds);
      case 'merge-failed': {
        const code = event.error instanceof ProductError ? event.error.code : 'internal_error';
        return merges.inc({ outcome: 'failed', code });
      }
      default:
    }
  };
}

/** Reports the size of the cache of merged models and the number of unfinished merges. */
export function observeMergedModels(metrics: Registry, models: Pick<MergedModels, 'usage'>): void {
  const registers = [metrics];
  new Gauge({
    name: 'lorasmith_merged_cache_bytes',
    help: 'Bytes of merged models on disk, and their limit.',
    labelNames: ['state'],
    registers,
    collect() {
      const { bytes, limitBytes } = models.usage();
      this.set({ state: 'used' }, bytes);
      this.set({ state: 'max' }, limitBytes);
    },
  });
  new Gauge({
    name: 'lorasmith_merged_models',
    help: 'Merged models on disk.',
    registers,
    collect() {
      this.set(models.usage().models);
    },
  });
  new Gauge({
    name: 'lorasmith_merges_unfinished',
    help: 'Running and waiting merges.',
    registers,
    collect() {
      this.set(models.usage().merging);
    },
  });
}

/** Counts downloads. A download that a client aborts counts in full. */
export function countDownloads(metrics: Registry): (event: DownloadEvent) => void {
  const options = { labelNames: ['weights'], registers: [metrics] };
  const downloads = new Counter({
    name: 'lorasmith_downloads_total',
    help: 'Started downloads of adapters, merged models and GGUF files, complete or a range.',
    ...options,
  });
  const bytes = new Counter({
    name: 'lorasmith_download_bytes_total',
    help: 'Bytes of the started downloads.',
    ...options,
  });
  for (const weights of ['adapter', 'merged', 'gguf']) {
    downloads.inc({ weights }, 0);
    bytes.inc({ weights }, 0);
  }
  return (event) => {
    downloads.inc({ weights: event.weights });
    bytes.inc({ weights: event.weights }, event.bytes);
  };
}

/** Logs the events of merges. An error of a request is in the log line of that request. */
export function logMergeEvents(logger: FastifyBaseLogger): (event: MergeEvent) => void {
  return ({ type, adapter, ...event }) => {
    const fields = { adapter, ...event };
    switch (type) {
      case 'merged-model-requested':
      case 'merge-progressed':
        return logger.debug(fields, type);
      case 'merge-failed': {
        const { error, ...rest } = fields as typeof fields & { error?: unknown };
        return logger.warn({ ...rest, err: error }, type);
      }
      default:
        return logger.info(fields, type);
    }
  };
}
