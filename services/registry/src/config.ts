import {
  dataDir,
  downloadStallMs,
  logLevel,
  maxConnections,
  modelsDir,
  Port,
  type SettingTree,
  serviceSecret,
  setting,
  shutdownTimeoutMs,
  storeSettings,
  tracingEndpoint,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';

/** Everything that can be set from the environment of the registry. */
export const REGISTRY_SETTINGS = {
  logLevel,
  dataDir,
  modelsDir,
  store: storeSettings,
  shutdownTimeoutMs,
  maxConnections,
  downloadStallMs,
  tracingEndpoint,
  serviceSecret,
  redirectDownloads: setting({
    variable: 'S3_REDIRECT_DOWNLOADS',
    schema: Type.Boolean(),
    fallback: 'false',
    example: 'true',
    description:
      '`true`, with `STORE=s3`: a download of a single file of an adapter is answered with 307 and an address in the ' +
      'bucket that is valid for 60 s, so clients must reach `S3_ENDPOINT`. Tars and merged models are sent by the api.',
  }),
  http: {
    host: setting({
      variable: 'REGISTRY_HOST',
      schema: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
      fallback: '127.0.0.1',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description: 'Address to listen on. The registry answers the api alone, which it knows by `SERVICE_SECRET`.',
    }),
    port: setting({
      variable: 'REGISTRY_PORT',
      schema: Port,
      fallback: '8081',
      example: '8081',
      description: 'Port to listen on; 0 for any free port.',
    }),
  },
  importing: {
    maxBytes: setting({
      variable: 'IMPORT_MAX_BYTES',
      schema: Type.Integer({ minimum: 1_024, maximum: Number.MAX_SAFE_INTEGER }),
      fallback: '4294967296',
      unit: 'bytes',
      example: '1073741824',
      description:
        'Maximum size of the tar of an imported adapter, and of its stored tensors: in float32, all layers with ' +
        'the largest rank.',
    }),
    timeoutMs: setting({
      variable: 'IMPORT_TIMEOUT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '600000',
      unit: 'ms',
      example: '600000',
      description: 'Time limit for checking an imported adapter, including hashing its base model the first time.',
    }),
  },
  merging: {
    cacheBytes: setting({
      variable: 'MERGED_CACHE_BYTES',
      schema: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
      fallback: '53687091200',
      unit: 'bytes',
      example: '107374182400',
      description:
        'Disk space for merged models. The least recently used one is removed first; a larger model is refused.',
    }),
    timeoutMs: setting({
      variable: 'MERGE_TIMEOUT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '3600000',
      unit: 'ms',
      example: '3600000',
      description: 'Time limit for a merge.',
    }),
    waitMs: setting({
      variable: 'MERGE_WAIT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '240000',
      unit: 'ms',
      example: '240000',
      description:
        'How long a download waits for its merge. After that the merge continues, and the caller asks again.',
    }),
  },
} satisfies SettingTree;
