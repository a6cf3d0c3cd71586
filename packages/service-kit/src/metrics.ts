import { statfs } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import { ProductError } from '@lorasmith/contracts';
import type { FastifyRequest } from 'fastify';
import type { Redis } from 'ioredis';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { type TSchema, Type } from 'typebox';
import type { HttpApp } from './http-app.js';
import { PRODUCT_VERSION } from './version.js';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface MetricsOptions {
  /** Name of the service. */
  service: string;
}

/**
 * The metrics of a process: memory, processor time, event loop, garbage collection, and whatever is registered with it.
 * Every label must have few values; ids of jobs and adapters belong in the log.
 */
export function createMetrics({ service }: MetricsOptions): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'lorasmith_build_info',
    help: 'Always 1; the labels name the service and its version.',
    labelNames: ['service', 'version', 'node'],
    registers: [registry],
  }).set({ service, version: PRODUCT_VERSION, node: process.versions.node }, 1);
  return registry;
}

export interface MetricsRouteOptions {
  metrics: Registry;
}

const response: Record<number, TSchema | object> = {
  200: {
    description: "Prometheus' text format.",
    content: { 'text/plain': { schema: Type.String() } },
  },
};

/** `GET /metrics`, for Prometheus. */
export async function metricsRoute(app: HttpApp, { metrics }: MetricsRouteOptions): Promise<void> {
  app.get(
    '/metrics',
    { schema: { operationId: 'getMetrics', summary: 'Metrics for Prometheus', tags: ['health'], response } },
    async (_request, reply) => {
      const text = await metrics.metrics();
      return await reply.type(metrics.contentType).send(text);
    },
  );
}

/** Far less than the time between two scrapes, and more than the duration of one. */
const SCRAPE_MS = 1_000;

/** Reads once per scrape: all calls within a second share one result. */
export function oncePerScrape<Found>(read: () => Promise<Found>): () => Promise<Found> {
  let current: { at: number; found: Promise<Found> } | undefined;
  return () => {
    const now = performance.now();
    if (current === undefined || now - current.at > SCRAPE_MS) current = { at: now, found: read() };
    return current.found;
  };
}

/**
 * Reports the size and free space of the file systems of some folders.
 *
 * @param folders paths by the value of their label, for instance `data`
 */
export function observeFolders(metrics: Registry, folders: Readonly<Record<string, string>>): void {
  new Gauge({
    name: 'lorasmith_folder_bytes',
    help: 'Size of the file system of a folder, and its free space for this process.',
    labelNames: ['folder', 'state'],
    registers: [metrics],
    async collect() {
      for (const [folder, path] of Object.entries(folders)) {
        try {
          const { bsize, blocks, bavail } = await statfs(path);
          this.set({ folder, state: 'total' }, bsize * blocks);
          this.set({ folder, state: 'free' }, bsize * bavail);
        } catch {
          // A folder that is unavailable has no figures; `/ready` reports it.
          this.remove({ folder, state: 'total' });
          this.remove({ folder, state: 'free' });
        }
      }
    },
  });
}

/** Buckets from a read in Redis to a merge during a request. */
const ANSWER_SECONDS = [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300];
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/**
 * Counts and times every request by the pattern of its route, never by its path: clients must not be able to create
 * series. Call it before the routes are registered.
 */
export function observeHttp(app: HttpApp, metrics: Registry): void {
  const requests = new Counter({
    name: 'lorasmith_http_requests_total',
    help: 'Requests that were answered, by route and status.',
    labelNames: ['method', 'route', 'status'],
    registers: [metrics],
  });
  const seconds = new Histogram({
    name: 'lorasmith_http_answer_seconds',
    help: 'Time from the head of a request to the first byte of its answer; an upload in between counts.',
    labelNames: ['method', 'route'],
    buckets: ANSWER_SECONDS,
    registers: [metrics],
  });
  // The end of the answer would not do: a stream of events lasts as long as its job.
  app.addHook('onSend', (request, reply, payload, done) => {
    seconds.observe(labelsOf(request), reply.elapsedTime / 1000);
    done(null, payload);
  });
  app.addHook('onResponse', async (request, reply) => {
    requests.inc({ ...labelsOf(request), status: reply.statusCode });
  });
}

function labelsOf({ method, routeOptions }: FastifyRequest): { method: string; route: string } {
  return { method: METHODS.has(method) ? method : 'other', route: routeOptions.url ?? 'none' };
}

/** Reports whether Redis answers this process and how full it is. */
export function observeRedis(metrics: Registry, redis: Pick<Redis, 'status' | 'info'>): void {
  const readMemory = oncePerScrape(() => memoryInfo(redis));
  new Gauge({
    name: 'lorasmith_redis_up',
    help: '1 while Redis answers this process, else 0.',
    registers: [metrics],
    async collect() {
      this.set((await readMemory()) === null ? 0 : 1);
    },
  });
  new Gauge({
    name: 'lorasmith_redis_memory_bytes',
    help: 'Memory that Redis uses, and its limit (0: none).',
    labelNames: ['state'],
    registers: [metrics],
    async collect() {
      const text = await readMemory();
      this.reset();
      if (text === null) return;
      this.set({ state: 'used' }, infoNumber(text, 'used_memory'));
      this.set({ state: 'max' }, infoNumber(text, 'maxmemory'));
    },
  });
}

async function memoryInfo(redis: Pick<Redis, 'status' | 'info'>): Promise<string | null> {
  // In a worker, a command would wait until Redis is back, and each scrape would add another.
  if (redis.status !== 'ready') return null;
  try {
    return await redis.info('memory');
  } catch {
    return null;
  }
}

/** The value of a line `name:value`; 0 when it is missing. */
function infoNumber(text: string, name: string): number {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}

/** Bytes that an import may store. */
export interface FreeBytes {
  /** Free bytes in the quota of its owner. */
  own: number;
  /** Free bytes in the quota that all owners share. */
  total: number;
}

const OWN_HEADER = 'x-lorasmith-own-free-bytes';
const TOTAL_HEADER = 'x-lorasmith-total-free-bytes';
const UNLIMITED: FreeBytes = Object.freeze({ own: Number.MAX_SAFE_INTEGER, total: Number.MAX_SAFE_INTEGER });

/** The headers in which the api passes the free bytes to the registry. They replace headers of the same name from the client. */
export function freeBytesHeaders({ own, total }: FreeBytes): Record<string, string> {
  return { [OWN_HEADER]: String(own), [TOTAL_HEADER]: String(total) };
}

/**
 * Reads {@link freeBytesHeaders}. A request that did not come through the api has no limits.
 * @throws ProductError `invalid_request`
 */
export function freeBytesOfHeaders(headers: IncomingHttpHeaders): FreeBytes {
  const values = [headers[OWN_HEADER], headers[TOTAL_HEADER]];
  if (values.every((value) => value === undefined)) return UNLIMITED;
  const [own = -1, total = -1] = values.map((value) => Number(value || Number.NaN));
  const isSize = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (isSize(own) && isSize(total)) return { own, total };
  throw new ProductError('invalid_request', `Only the api may send ${OWN_HEADER} and ${TOTAL_HEADER}.`);
}
