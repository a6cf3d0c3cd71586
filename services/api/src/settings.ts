import { MAX_LINE_BYTES } from '@lorasmith/planning';
import {
  dataDir,
  logLevel,
  maxConnections,
  modelsDir,
  Port,
  redisSettings,
  setting,
  shutdownTimeoutMs,
  storeSettings,
  tokenCacheBytes,
  tracingEndpoint,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';

const count = (variable: string, fallback: number, bounds: [number, number], unit: string, description: string) =>
  setting({
    variable,
    schema: Type.Integer({ minimum: bounds[0], maximum: bounds[1] }),
    fallback: String(fallback),
    unit,
    example: String(fallback),
    description,
  });

/** Everything about the api that can be set. */
export const API_SETTINGS = {
  logLevel,
  dataDir,
  modelsDir,
  store: storeSettings,
  tokenCacheBytes,
  shutdownTimeoutMs,
  maxConnections,
  tracingEndpoint,
  http: {
    host: setting({
      variable: 'API_HOST',
      schema: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
      fallback: '127.0.0.1',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description:
        'Address to listen on. Another one than the loopback needs API keys: without any the api does not start.',
    }),
    publishedHost: setting({
      variable: 'API_PUBLISHED_HOST',
      schema: Type.String({ pattern: '^\\[?[A-Za-z0-9.:-]{0,253}\\]?$' }),
      fallback: '',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description:
        'Address under which others reach the api, where that is another one than `API_HOST`: in a container, that of ' +
        'the published port. It then decides whether keys are needed.',
    }),
    trustNetwork: setting({
      variable: 'API_TRUST_NETWORK',
      schema: Type.Boolean(),
      fallback: 'false',
      example: 'true',
      description:
        '`true`: as long as there are no API keys, whoever reaches the api may do everything, whatever its address. Only ' +
        'for something in front of it that keeps strangers away, such as a proxy that asks for a login.',
    }),
    port: setting({
      variable: 'API_PORT',
      schema: Port,
      fallback: '8080',
      example: '8080',
      description: 'Port to listen on; 0 for any free one.',
    }),
    requestTimeoutMs: count(
      'REQUEST_TIMEOUT_MS',
      3_600_000,
      [1_000, 86_400_000],
      'ms',
      'Time for a request to arrive; the upload of a dataset must fit into it.',
    ),
    downloadStallMs: count(
      'DOWNLOAD_STALL_MS',
      120_000,
      [1_000, 86_400_000],
      'ms',
      'A download of which the client takes nothing for so long is ended; the client can go on from there with a range.',
    ),
    heartbeatMs: count(
      'EVENT_HEARTBEAT_MS',
      15_000,
      [100, 600_000],
      'ms',
      'Silence in an event stream after which a comment is sent.',
    ),
  },
  redis: redisSettings,
  registryUrl: setting({
    variable: 'REGISTRY_URL',
    schema: Type.String({ pattern: '^https?://[^/?#]+/?$' }),
    fallback: 'http://127.0.0.1:8081',
    example: 'http://127.0.0.1:8081',
    fault: 'is not an address such as http://host:port',
    description: 'The registry, to which /adapters is forwarded.',
  }),
  datasets: {
    maxBytes: count('DATASET_MAX_BYTES', 2 ** 30, [1, 2 ** 40], 'bytes', 'Largest dataset.'),
    maxLineBytes: count(
      'DATASET_MAX_LINE_BYTES',
      10 * 2 ** 20,
      [1, MAX_LINE_BYTES],
      'bytes',
      'Longest line of a dataset.',
    ),
    maxRows: count('DATASET_MAX_ROWS', 10_000_000, [1, 100_000_000], 'rows', 'Most rows of a dataset.'),
  },
  limits: {
    requestsPerMinute: count(
      'KEY_REQUESTS_PER_MINUTE',
      600,
      [1, 10_000_000],
      'calls',
      'Calls that an API key may make in a minute.',
    ),
    activeJobs: count('KEY_ACTIVE_JOBS', 100, [0, 1_000_000], 'jobs', 'Jobs of an API key that wait or run.'),
    keptJobs: count(
      'KEY_KEPT_JOBS',
      1_000,
      [1, 1_000_000],
      'jobs',
      'Ended jobs that are kept of an API key. When it sends another one, the oldest beyond them are removed; adapters stay.',
    ),
    totalKeptJobs: count(
      'KEPT_JOBS_MAX',
      10_000,
      [1, 10_000_000],
      'jobs',
      'Ended jobs that are kept of all. One takes some KB in Redis, with all events of a long training about 1 MB.',
    ),
    datasetBytes: count('KEY_DATASET_BYTES', 50 * 2 ** 30, [0, 2 ** 52], 'bytes', 'Of all datasets of an API key.'),
    adapterBytes: count(
      'KEY_ADAPTER_BYTES',
      50 * 2 ** 30,
      [0, 2 ** 52],
      'bytes',
      'Of all adapters of an API key, those that its unfinished jobs will make among them.',
    ),
    datasets: count('KEY_DATASETS', 10_000, [1, 10_000_000], 'datasets', 'Datasets of an API key.'),
    eventStreams: count(
      'KEY_EVENT_STREAMS',
      100,
      [1, 100_000],
      'streams',
      'Event streams that an API key may have open at a time, in each api process.',
    ),
    totalEventStreams: count(
      'EVENT_STREAMS_MAX',
      2_000,
      [1, 100_000],
      'streams',
      'Event streams that may be open at a time in each api process.',
    ),
    transfers: count(
      'KEY_TRANSFERS',
      32,
      [1, 100_000],
      'transfers',
      'Downloads and imports of adapters that an API key may have under way at a time, in each api process.',
    ),
    totalTransfers: count(
      'TRANSFERS_MAX',
      256,
      [1, 100_000],
      'transfers',
      'Downloads and imports of adapters that may be under way at a time in each api process.',
    ),
    uploads: count(
      'KEY_UPLOADS',
      16,
      [1, 100_000],
      'uploads',
      'Uploads of datasets that an API key may have under way at a time, in each api process.',
    ),
    totalUploads: count(
      'UPLOADS_MAX',
      64,
      [1, 100_000],
      'uploads',
      'Uploads of datasets that may be under way at a time in each api process. Each may hold a line of a dataset in memory.',
    ),
    waitingJobs: count('QUEUE_MAX_JOBS', 10_000, [1, 1_000_000], 'jobs', 'Jobs that may wait for a worker, of all.'),
    totalDatasets: count(
      'DATASETS_MAX',
      100_000,
      [1, 10_000_000],
      'datasets',
      'Datasets of all. Their records are in the memory of each api process, about 1 KB each, and are gone through for each list and upload.',
    ),
    totalDatasetBytes: count('DATASETS_MAX_BYTES', 2 ** 40, [1, 2 ** 52], 'bytes', 'Of all datasets together.'),
    totalAdapterBytes: count(
      'ADAPTERS_MAX_BYTES',
      2 ** 40,
      [1, 2 ** 52],
      'bytes',
      'Of all adapters together, those that unfinished jobs will make among them.',
    ),
  },
  preflight: {
    threads: count(
      'PREFLIGHT_THREADS',
      1,
      [1, 64],
      'threads',
      'Jobs that are planned at the same time before they are queued.',
    ),
    maxWaiting: count(
      'PREFLIGHT_MAX_WAITING',
      64,
      [0, 10_000],
      'jobs',
      'Jobs that may wait to be planned; further ones are refused for the moment.',
    ),
    timeoutMs: count(
      'PREFLIGHT_TIMEOUT_MS',
      60_000,
      [100, 3_600_000],
      'ms',
      'Time to plan a job, waiting included; for each MB of its dataset there are 10 s more.',
    ),
  },
};
