import { readFileSync } from 'node:fs';
import { ProductError } from '@lorasmith/contracts';
import { Type } from 'typebox';
import { redisPrefix, redisUrl } from './common-settings.js';
import type { Config } from './config.js';
import { type Setting, setting } from './setting.js';

/** The content of a file of certificates, or null when none is set. */
function certificates(variable: string, description: string): Setting<string | null> {
  const schema = Type.String({ maxLength: 4096 });
  const file = setting({ variable, schema, fallback: '', example: '/etc/lorasmith/redis-ca.pem', description });
  return {
    ...file,
    parse(text) {
      if (text === '') return { value: null };
      try {
        const content = readFileSync(text, 'utf8');
        if (content.includes('-----BEGIN CERTIFICATE-----')) return { value: content };
        return { fault: 'is not a file of certificates in PEM format' };
      } catch (error) {
        return { fault: `cannot be read (${(error as NodeJS.ErrnoException).code})` };
      }
    },
  };
}

/** How to reach Redis; the same for api and workers. */
export const redisSettings = {
  url: redisUrl,
  prefix: redisPrefix,
  ca: certificates(
    'REDIS_CA_FILE',
    "Certificates to trust for a Redis at `rediss://`, in PEM format, instead of Node's own list.",
  ),
  cluster: setting({
    variable: 'REDIS_CLUSTER',
    schema: Type.Boolean(),
    fallback: 'false',
    example: 'true',
    description:
      '`true`: `REDIS_URL` is a node of a Redis Cluster with several shards. `REDIS_PREFIX` must then have a ' +
      'hash tag, such as `{lorasmith}:`, which keeps all keys on one shard.',
  }),
};

/** Checks the settings against each other. @throws ProductError `invalid_configuration` */
export function checkRedisSettings({ url, prefix, ca, cluster }: Config<typeof redisSettings>): void {
  const fault =
    cluster && !/\{[^{}]+\}/.test(prefix)
      ? ['REDIS_PREFIX', 'has no hash tag, which REDIS_CLUSTER=true needs; for instance REDIS_PREFIX={lorasmith}:']
      : ca !== null && !url.startsWith('rediss://')
        ? ['REDIS_CA_FILE', 'needs an encrypted connection: REDIS_URL must begin with rediss://']
        : cluster && url.startsWith('unix://')
          ? ['REDIS_URL', 'is a socket of this host, which a cluster cannot be']
          : null;
  if (fault === null) return;
  const [param = '', what] = fault;
  throw new ProductError('invalid_configuration', `The environment is invalid:\n  ${param} ${what}`, { param });
}
