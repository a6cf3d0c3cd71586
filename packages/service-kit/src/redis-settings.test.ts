import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkRedisSettings, readConfig, redisSettings } from './index.js';

let folder: string;
let caFile: string;
const PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-redis-settings-'));
  caFile = path.join(folder, 'ca.pem');
  await writeFile(caFile, PEM);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('the default is a single unencrypted Redis on this host', () => {
  const config = readConfig(redisSettings, {});
  expect(config).toEqual({ url: 'redis://127.0.0.1:6379', prefix: 'lorasmith:', ca: null, cluster: false });
  expect(() => checkRedisSettings(config)).not.toThrow();
});

test('a file of certificates is read', () => {
  expect(readConfig(redisSettings, { REDIS_CA_FILE: caFile }).ca).toBe(PEM);
});

test.each([
  ['/no/such/file', 'cannot be read (ENOENT)'],
  ['/', 'cannot be read (EISDIR)'],
  [`${import.meta.dirname}/store-settings.ts`, 'is not a file of certificates'],
])('%s for certificates is refused', (REDIS_CA_FILE, fault) => {
  expect(() => readConfig(redisSettings, { REDIS_CA_FILE })).toThrowError(
    expect.objectContaining({ code: 'invalid_configuration', message: expect.stringContaining(fault) }),
  );
});

test.each([
  [{ REDIS_CLUSTER: 'true' }, 'REDIS_PREFIX has no hash tag'],
  [{ REDIS_CLUSTER: 'true', REDIS_PREFIX: 'a{}:' }, 'REDIS_PREFIX has no hash tag'],
  [{ REDIS_CLUSTER: 'true', REDIS_PREFIX: '{a}:', REDIS_URL: 'unix:///run/redis.sock' }, 'REDIS_URL is a socket'],
  [{ REDIS_CA_FILE: 'file' }, 'REDIS_CA_FILE needs an encrypted connection'],
])('%j contradict each other', (environment: Record<string, string>, fault) => {
  const named = 'REDIS_CA_FILE' in environment ? { ...environment, REDIS_CA_FILE: caFile } : environment;
  expect(() => checkRedisSettings(readConfig(redisSettings, named))).toThrowError(
    expect.objectContaining({ code: 'invalid_configuration', message: expect.stringContaining(fault) }),
  );
});

test('a cluster with a hash tag, and an encrypted connection with certificates, are accepted', () => {
  for (const environment of [
    { REDIS_CLUSTER: 'true', REDIS_PREFIX: '{lorasmith}:', REDIS_URL: 'rediss://host' },
    { REDIS_URL: 'rediss://user:secret@host:6380/2', REDIS_CA_FILE: caFile },
  ]) {
    expect(() => checkRedisSettings(readConfig(redisSettings, environment))).not.toThrow();
  }
});
