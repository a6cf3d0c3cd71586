import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openStores } from '../../../packages/storage/dist/index.js';
import { cacheDir } from '../../../scripts/setup/locations.mjs';
import { findS3Server, startS3Server } from '../../../scripts/stack/s3-server.mjs';
import { childAnswer, options, quick, ROOT, say } from '../harness.mjs';
import { table } from '../tables.mjs';

/** Lists and quotas of many adapters in a bucket, of this checkout and, with --before, of another one. */
export async function lists() {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-lists-'));
  const adapters = quick ? 1_000 : 10_000;
  const delayMs = 20;
  const roots = options.before === undefined ? [ROOT] : [path.resolve(options.before), ROOT];
  try {
    const figures = await listsOfAdapters({ roots, folder, cache: cacheDir(process.env), adapters, delayMs });
    say(`${adapters} adapters of ten keys in a bucket whose answers take ${delayMs} ms longer.`);
    const columns = roots.length === 1 ? [''] : [', before', ', now'];
    say(
      table(
        ['what', ...columns.map((column) => `list requests, others, seconds${column}`)],
        Object.keys(/** @type {object} */ (figures.at(-1))).map((name) => [
          name,
          ...figures.map(({ [name]: one }) => (one ? `${one.lists}, ${one.others}, ${one.seconds.toFixed(2)}` : '')),
        ]),
      ),
    );
    return { adapters, delayMs, figures };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Published at the same time. */
const AT_ONCE = 32;

/**
 * Lists of adapters in a bucket of a real S3 server, each answer of which is late by a given time.
 *
 * @typedef {object} ListsOptions
 * @property {string[]} roots checkouts, whose code lists the same bucket
 * @property {string} folder an empty one
 * @property {string} cache where set-up keeps the server
 * @property {number} adapters of ten keys
 * @property {number} delayMs
 */

/** @param {ListsOptions} options @returns {Promise<import('../measure-lists.mjs').ListsFigures[]>} of each checkout */
async function listsOfAdapters({ roots, folder, cache, adapters, delayMs }) {
  const { file } = await findS3Server({ cache, env: process.env, progress: { update() {} } });
  const server = await startS3Server({ file, folder, bucket: 'bench' });
  Object.assign(process.env, server.credentials);
  const late = await startLateServer(Number(new URL(server.settings.endpoint).port), delayMs);
  const lateSettings = { ...server.settings, endpoint: `http://127.0.0.1:${late.port}` };
  try {
    await fill(path.join(folder, 'publisher'), server.settings, adapters);
    const results = [];
    for (const [index, root] of roots.entries()) {
      const dataDir = path.join(folder, `lists-${index}`);
      results.push(await measure({ root, dataDir, s3: lateSettings, owner: keyOf(3) }));
    }
    return results;
  } finally {
    late.close();
    await server.pause();
  }
}

/**
 * Adapters of which there is only the manifest, which is all that lists read.
 *
 * @param {string} dataDir
 * @param {import('../../../packages/storage/dist/index.js').S3Settings} s3
 * @param {number} adapters
 */
async function fill(dataDir, s3, adapters) {
  await mkdir(dataDir, { recursive: true });
  const stores = await openStores({ dataDir, s3: { ...s3, cacheBytes: 1 } });
  const store = await stores.open('adapters');
  let next = 0;
  const publishSome = async () => {
    for (let index = next++; index < adapters; index = next++) {
      // Random digits, as ids have them.
      const digits = ((index * 2_654_435_761) % 2 ** 32).toString(16).padStart(8, '0').repeat(3);
      const manifest = manifestOf(`ad_${digits}`, index);
      const staging = await store.stage();
      await staging.write('manifest.json', [Buffer.from(JSON.stringify(manifest))]);
      const { owner, created_at } = manifest;
      await store.publish(staging, manifest.id, { owner, created_at, bytes: manifest.files[0].bytes });
      await staging.discard();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, publishSome));
  stores.close();
}

const keyOf = (/** @type {number} */ index) => `key_${String(index % 10).padStart(24, '0')}`;

function manifestOf(/** @type {string} */ id, /** @type {number} */ index) {
  const sha256 = '0'.repeat(64);
  return {
    version: 1,
    id,
    object: 'adapter',
    owner: keyOf(index),
    name: `adapter ${index}`,
    created_at: new Date(Date.UTC(2026, 0, 1) + index * 60_000).toISOString(),
    origin: { kind: 'imported' },
    base_model: {
      name: 'a-model',
      family: 'llama',
      weights_sha256: sha256,
      architecture_sha256: sha256,
      quantization: null,
    },
    lora: { r: 16, alpha: 32, modules: ['q_proj'], rank_pattern: {}, alpha_pattern: {} },
    versions: { node: '20' },
    files: /** @type {const} */ ([{ name: 'adapter_model.safetensors', bytes: 1_000_000 + index, sha256 }]),
  };
}

/** @param {import('../measure-lists.mjs').ListsOrder} order @returns {Promise<import('../measure-lists.mjs').ListsFigures>} */
async function measure(order) {
  await mkdir(order.dataDir, { recursive: true });
  const child = fork(path.join(import.meta.dirname, '../measure-lists.mjs'), { env: process.env });
  child.send(order);
  return await childAnswer(child, 'the process that lists');
}

/**
 * A port whose answers are those of another one, later.
 *
 * @param {number} port
 * @param {number} delayMs
 */
async function startLateServer(port, delayMs) {
  const server = createServer((client) => {
    const target = connect(port, '127.0.0.1');
    for (const socket of [client, target]) socket.setNoDelay(true).on('error', () => {});
    client.pipe(target);
    target.on('data', (data) => setTimeout(() => client.writable && client.write(data), delayMs));
    target.on('close', () => setTimeout(() => client.destroy(), delayMs));
    client.on('close', () => target.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port: own } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { port: own, close: () => server.close() };
}
