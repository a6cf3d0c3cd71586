import {
  dataDir,
  logLevel,
  mapSetting,
  modelsDir,
  Port,
  redisSettings,
  setting,
  shutdownTimeoutMs,
  storeSettings,
} from '@lorasmith/service-kit';
import { Type } from 'typebox';

const bytes = (variable: string, fallback: number, description: string) =>
  setting({
    variable,
    schema: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    fallback: String(fallback),
    unit: 'bytes',
    example: String(fallback),
    description,
  });

/** Everything about the puller that can be set. The variables that start with HF_ are those of Hugging Face's own tools. */
export const PULLER_SETTINGS = {
  logLevel,
  dataDir,
  modelsDir,
  store: storeSettings,
  shutdownTimeoutMs,
  redis: redisSettings,
  hub: {
    endpoint: mapSetting(
      setting({
        variable: 'HF_ENDPOINT',
        schema: Type.String({ pattern: '^https?://[A-Za-z0-9.:\\[\\]-]{1,253}/?$' }),
        fallback: 'https://huggingface.co',
        example: 'https://hub.example',
        fault: 'is not an address such as https://host:port',
        description: 'The hub from which base models are pulled, or a mirror of it. It receives `HF_TOKEN`.',
      }),
      (value) => value.replace(/\/$/, ''),
    ),
    token: mapSetting(
      setting({
        variable: 'HF_TOKEN',
        schema: Type.String({ pattern: '^[A-Za-z0-9_.-]{0,500}$' }),
        fallback: '',
        secret: true,
        example: 'hf_…',
        fault: 'is not a token: letters, digits and _.- are allowed',
        description: 'Token of an account of the hub, for gated and private models. Reading is enough.',
      }),
      (value) => (value === '' ? null : value),
    ),
    offline: mapSetting(
      setting({
        variable: 'HF_HUB_OFFLINE',
        schema: Type.Enum(['0', '1', 'false', 'true', 'no', 'yes', 'off', 'on']),
        fallback: '0',
        example: '1',
        description: '`1`: nothing is fetched from the hub, and a pull fails at once.',
      }),
      (value) => ['1', 'true', 'yes', 'on'].includes(value),
    ),
  },
  limits: {
    maxBytes: bytes('MODEL_PULL_MAX_BYTES', 200 * 2 ** 30, 'Maximum size of a base model that is pulled.'),
    keepFreeBytes: bytes(
      'MODEL_PULL_KEEP_FREE_BYTES',
      2 ** 30,
      'Disk space that a pull leaves free. It is checked before the weights are fetched.',
    ),
  },
  health: {
    port: setting({
      variable: 'PULLER_HEALTH_PORT',
      schema: Port,
      fallback: '0',
      example: '8083',
      description: 'Port of `/live` and `/ready` of the puller, on 127.0.0.1; 0: none.',
    }),
  },
};
