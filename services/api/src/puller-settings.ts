import { HUB_VARIABLES } from '@lorasmith/hub';
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
import { hubEndpoint, hubOffline } from './hub-settings.js';

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
    endpoint: hubEndpoint,
    token: mapSetting(
      setting({
        ...HUB_VARIABLES.token,
        schema: Type.String({ pattern: HUB_VARIABLES.token.pattern }),
        secret: true,
        example: 'hf_…',
        description: 'Token of an account of the hub, for gated and private models. Reading is enough.',
      }),
      HUB_VARIABLES.token.read,
    ),
    offline: hubOffline,
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
