import path from 'node:path';
import { Type } from 'typebox';
import { mapSetting, setting } from './setting.js';

/** Settings that several services share, so that a variable means the same everywhere. */

export const logLevel = setting({
  variable: 'LOG_LEVEL',
  schema: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  fallback: 'info',
  example: 'debug',
  description: 'Minimum level of the log lines.',
});

export const redisUrl = setting({
  variable: 'REDIS_URL',
  schema: Type.String({ pattern: '^(rediss?|unix)://' }),
  fallback: 'redis://127.0.0.1:6379',
  example: 'redis://127.0.0.1:6379',
  // It may contain a password.
  secret: true,
  fault: 'is not an address that begins with redis://, rediss:// or unix://',
  description:
    'The Redis that holds jobs and their queue. It needs `appendonly yes` and `maxmemory-policy noeviction`.',
});

export const redisPrefix = setting({
  variable: 'REDIS_PREFIX',
  schema: Type.String({ pattern: '^[A-Za-z0-9{}:_-]{1,64}$' }),
  fallback: 'lorasmith:',
  example: 'lorasmith:',
  fault: 'has other characters than letters, digits and {}:_- or is longer than 64',
  description: 'Prefix of every key in Redis. The same for api and workers.',
});

const folder = (variable: string, fallback: string, description: string) =>
  mapSetting(
    setting({
      variable,
      schema: Type.String({ minLength: 1, maxLength: 4096 }),
      fallback,
      example: `/srv/lorasmith/${path.basename(fallback)}`,
      description,
    }),
    (value) => path.resolve(value),
  );

export const dataDir = folder('DATA_DIR', './data', 'Folder of datasets, adapters, checkpoints and merged models.');
export const modelsDir = folder('MODELS_DIR', './models', 'Folder with one folder per base model.');

export const serviceSecret = mapSetting(
  setting({
    variable: 'SERVICE_SECRET',
    schema: Type.String({ pattern: '^([\\x21-\\x7e]{32,256})?$' }),
    fallback: '',
    example: '(openssl rand -hex 32)',
    secret: true,
    fault: 'has fewer than 32 or more than 256 characters, or others than letters, digits and signs',
    description:
      'The secret by which the registry knows the api; the same for both. Without it, they use a secret that the registry ' +
      'writes into the `DATA_DIR` that they share. Set it where they share none, as with `STORE=s3`: the registry would ' +
      'answer everyone that reaches its port.',
  }),
  (value) => (value === '' ? null : value),
);

export const tokenCacheBytes = setting({
  variable: 'TOKEN_CACHE_BYTES',
  schema: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  fallback: '21474836480',
  unit: 'bytes',
  example: '107374182400',
  description:
    'Disk space for tokenized datasets, which are made once and kept for the next job. The least recently used ' +
    'one is removed first; one that a job reads stays even beyond this limit.',
});

export const shutdownTimeoutMs = setting({
  variable: 'SHUTDOWN_TIMEOUT_MS',
  schema: Type.Integer({ minimum: 100, maximum: 600_000 }),
  fallback: '30000',
  unit: 'ms',
  example: '30000',
  description: 'How long the process may take to end after SIGTERM. After that it ends without finishing.',
});

export const tracingEndpoint = mapSetting(
  setting({
    variable: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    schema: Type.String({ pattern: '^(none|https?://[^?#]+)$' }),
    fallback: 'none',
    example: 'http://127.0.0.1:4318',
    fault: 'is not an address such as http://host:4318',
    description:
      'A collector for traces that accepts OTLP over HTTP. `none`: nothing is traced. `OTEL_TRACES_SAMPLER` and ' +
      '`OTEL_EXPORTER_OTLP_HEADERS` have their standard meaning.',
  }),
  (value) => (value === 'none' ? null : value),
);

export const maxConnections = setting({
  variable: 'CONNECTIONS_MAX',
  schema: Type.Integer({ minimum: 10, maximum: 1_000_000 }),
  fallback: '4000',
  unit: 'connections',
  example: '20000',
  description:
    'Maximum open connections of a service; also at most half of the files that its process may open (`ulimit ' +
    '-n`), because requests need the other half. Further connections are closed.',
});

export const downloadStallMs = setting({
  variable: 'DOWNLOAD_STALL_MS',
  schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
  fallback: '120000',
  unit: 'ms',
  example: '120000',
  description:
    'A download is ended if the client takes no bytes for this long. The client can continue it with a range. The same for ' +
    'api and registry.',
});
