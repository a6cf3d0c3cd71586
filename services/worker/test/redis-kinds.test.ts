import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createServer } from 'node:tls';
import { createJobStore, jobKeys, QUEUE_NAME } from '@lorasmith/queue';
import { connectRedis, redisReady } from '@lorasmith/service-kit';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startOwnRedis } from '../../../test/real-redis.js';
import { aJobSpec } from './a-job-spec.js';

// Redis as managed services run it: encrypted, with a user and a password, as a cluster.

const logger = pino({ level: 'silent' });
const PASSWORD = 'p@ss/word:1';
const PATIENCE_MS = 60_000;
const cleanups: (() => unknown)[] = [];
let folder: string;
let certFile: string;
let keyFile: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-redis-kinds-'));
  [certFile, keyFile] = [path.join(folder, 'cert.pem'), path.join(folder, 'key.pem')];
});
afterAll(() => rm(folder, { recursive: true, force: true }));
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** @returns false without openssl */
function makeCertificate(): boolean {
  // biome-ignore format: an option and its value belong on one line
  const made = spawnSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=lorasmith-test', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', keyFile, '-out', certFile,
  ]);
  if (made.error !== undefined) return false;
  expect(made.status, String(made.stderr)).toBe(0);
  return true;
}

/** Records a job, receives its events and takes it from the queue. */
async function takeJob(options: { url: string; prefix: string; ca?: string; cluster?: boolean }): Promise<void> {
  const { prefix } = options;
  const open = (whenUnavailable: 'wait' | 'fail-fast') => {
    const redis = connectRedis({ ...options, whenUnavailable, name: 'test', logger });
    cleanups.push(() => redis.disconnect());
    return redis;
  };
  const redis = open('fail-fast');
  expect(await redisReady(redis, PATIENCE_MS)).toBe(true);
  const store = createJobStore({ redis, prefix });
  cleanups.push(() => store.close());
  const { job } = await store.createJob(aJobSpec(''), { requestHash: 'hash', idempotencyKey: 'key' });
  const events = await store.readEvents(job.id);
  expect(events.data.map(({ type }) => type)).toEqual(['job-queued']);
  // Another connection subscribes to this event.
  const next = store.readEvents(job.id, { after: events.next ?? '', blockMs: PATIENCE_MS });
  next.catch(() => {});

  let take: (id: string) => void = () => {};
  const taken = new Promise<string>((resolve) => {
    take = resolve;
  });
  const worker = new Worker(
    QUEUE_NAME,
    async ({ id = '' }) => {
      await store.attempts.start(job.id, 'test', 0);
      take(id);
    },
    { connection: open('wait'), prefix: jobKeys(prefix).queuePrefix },
  );
  worker.on('error', () => {});
  cleanups.push(() => worker.close(true));
  expect(await taken).toContain(job.id);
  expect((await next).data[0]?.type).toBe('job-started');
  expect((await store.listJobs()).data.map(({ id }) => id)).toEqual([job.id]);
  await store.reconcile();
}

const USERS = [
  ...[
    '--user',
    'lorasmith',
    'on',
    `>${PASSWORD}`,
    '~test-*',
    '&test-*',
    '+@all',
    '-@dangerous',
    '+info',
    '+config|get',
  ],
  ...['--user', 'default', 'off'],
];

/** A Redis that accepts only encrypted connections. If the server was built without TLS, a proxy in front of it does. */
async function startEncryptedRedis(): Promise<{ host: string; prefix: string }> {
  try {
    const server = await startOwnRedis((port) => [
      ...['--port', '0', '--tls-port', String(port), '--tls-auth-clients', 'no'],
      ...['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-ca-cert-file', certFile, ...USERS],
    ]);
    cleanups.push(() => server.stop());
    return { host: new URL(server.url).host, prefix: server.prefix };
  } catch (error) {
    if (!/TLS support/.test((error as Error).message)) throw error;
  }
  const server = await startOwnRedis((port) => ['--port', String(port), ...USERS]);
  cleanups.push(() => server.stop());
  const [key, cert] = [await readFile(keyFile), await readFile(certFile)];
  const front = createServer({ key, cert }, (encrypted) => {
    const plain = connect({ host: '127.0.0.1', port: Number(new URL(server.url).port) });
    for (const socket of [encrypted, plain]) socket.on('error', () => {});
    encrypted.pipe(plain).pipe(encrypted);
    encrypted.once('close', () => plain.destroy());
  });
  front.on('tlsClientError', () => {});
  front.listen(0, '127.0.0.1');
  await once(front, 'listening');
  cleanups.push(() => front.close());
  return { host: `127.0.0.1:${(front.address() as AddressInfo).port}`, prefix: server.prefix };
}

test('encrypted, with a user and a password', async (context) => {
  if (!makeCertificate()) return context.skip('there is no openssl to make a certificate with');
  const server = await startEncryptedRedis();
  const { host } = server;
  const login = `lorasmith:${encodeURIComponent(PASSWORD)}`;
  const ca = await readFile(certFile, 'utf8');
  await takeJob({ url: `rediss://${login}@${host}`, prefix: server.prefix, ca });

  // An untrusted certificate, a wrong password and an unencrypted connection are refused.
  for (const refused of [
    { url: `rediss://${login}@${host}` },
    { url: `rediss://lorasmith:wrong@${host}`, ca },
    { url: `redis://${login}@${host}` },
  ]) {
    const redis = connectRedis({ ...refused, whenUnavailable: 'fail-fast', name: 'test', logger });
    cleanups.push(() => redis.disconnect());
    await expect(redis.ping()).rejects.toThrow();
    expect(await redisReady(redis, 300)).toBe(false);
  }
});

test('a cluster, with a hash tag in the prefix', async () => {
  const server = await startOwnRedis((port) => [
    ...['--port', String(port), '--cluster-enabled', 'yes', '--cluster-config-file', `nodes-${port}.conf`],
    // The bus between nodes, which a cluster of one node does not use, would be 10000 above the port.
    ...['--cluster-port', String(port > 40_000 ? port - 10_000 : port + 10_000)],
    // A node that has never met another one does not know its own address.
    ...['--cluster-announce-ip', '127.0.0.1', '--requirepass', PASSWORD],
  ]);
  cleanups.push(() => server.stop());
  const { host } = new URL(server.url);
  const url = `redis://:${encodeURIComponent(PASSWORD)}@${host}`;
  const admin = new Redis(url);
  cleanups.push(() => admin.disconnect());
  await admin.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
  await expect.poll(() => admin.call('CLUSTER', 'INFO'), { timeout: PATIENCE_MS }).toContain('cluster_state:ok');
  await takeJob({ url, prefix: `{${server.prefix}}:`, cluster: true });
  // Without a tag, the keys of one script are on several shards.
  const redis = connectRedis({ url, cluster: true, whenUnavailable: 'fail-fast', name: 'test', logger });
  cleanups.push(() => redis.disconnect());
  await redisReady(redis, PATIENCE_MS);
  const untagged = createJobStore({ redis, prefix: server.prefix });
  cleanups.push(() => untagged.close());
  await expect(untagged.createJob(aJobSpec(''), { requestHash: 'hash' })).rejects.toThrow('CROSSSLOT');
});
