import {
  dataDir,
  logLevel,
  maxConnections,
  modelsDir,
  Port,
  type SettingTree,
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
  tracingEndpoint,
  http: {
    host: setting({
      variable: 'REGISTRY_HOST',
      schema: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
      fallback: '127.0.0.1',
      example: '127.0.0.1',
      fault: 'is neither an address nor a host name',
      description: 'Where the registry listens. It asks for no key: the api must be the only one that reaches it.',
    }),
    port: setting({
      variable: 'REGISTRY_PORT',
      schema: Port,
      fallback: '8081',
      example: '8081',
      description: 'Port of the registry.',
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
        'Largest tar of an adapter that POST /adapters takes, and the most that its tensors may take as they are stored: ' +
        'in float32, all layers with the largest rank.',
    }),
    timeoutMs: setting({
      variable: 'IMPORT_TIMEOUT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '600000',
      unit: 'ms',
      example: '600000',
      description: 'Checking an imported adapter, and hashing its base model the first time, may take this long.',
    }),
  },
  merging: {
    cacheBytes: setting({
      variable: 'MERGED_CACHE_BYTES',
      schema: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
      fallback: '53687091200',
      unit: 'bytes',
      example: '107374182400',
      description: 'Of disk for merged models. The least recently used goes first; a larger model is refused.',
    }),
    timeoutMs: setting({
      variable: 'MERGE_TIMEOUT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '3600000',
      unit: 'ms',
      example: '3600000',
      description: 'A merge that takes longer is ended.',
    }),
    waitMs: setting({
      variable: 'MERGE_WAIT_MS',
      schema: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
      fallback: '240000',
      unit: 'ms',
      example: '240000',
      description: 'How long a download waits for its merge. The merge goes on after it; the caller asks again.',
    }),
  },
} satisfies SettingTree;
