import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { openStores } from '../../packages/storage/dist/index.js';
import { findS3Server } from '../../scripts/setup/s3-server.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';

/** Published at the same time. */
const AT_ONCE = 32;
const CREDENTIALS = { AWS_ACCESS_KEY_ID: 'bench-access', AWS_SECRET_ACCESS_KEY: 'bench-secret' };
const REGION = 'us-east-1';
const BUCKET = 'bench';

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

/** @param {ListsOptions} options @returns {Promise<import('../lists/measure-lists.mjs').ListsFigures[]>} of each checkout */
export async function lists({ roots, folder, cache, adapters, delayMs }) {
  Object.assign(process.env, CREDENTIALS);
  const server = await startServer(folder, cache);
  const late = await startLateServer(server.port, delayMs);
  const settings = (/** @type {number} */ port) => ({
    endpoint: `http://127.0.0.1:${port}`,
    region: REGION,
    bucket: BUCKET,
    prefix: '',
    forcePathStyle: true,
  });
  try {
    await fill(path.join(folder, 'publisher'), settings(server.port), adapters);
    const results = [];
    for (const [index, root] of roots.entries()) {
      const dataDir = path.join(folder, `lists-${index}`);
      results.push(await measure({ root, dataDir, s3: settings(late.port), owner: keyOf(3) }));
    }
    return results;
  } finally {
    late.close();
    await server.stop();
  }
}

/**
 * Adapters of which there is only the manifest, which is all that lists read.
 *
 * @param {string} dataDir
 * @param {import('../../packages/storage/dist/index.js').S3Settings} s3
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

/** @param {import('../lists/measure-lists.mjs').ListsOrder} order @returns {Promise<import('../lists/measure-lists.mjs').ListsFigures>} */
async function measure(order) {
  await mkdir(order.dataDir, { recursive: true });
  const child = fork(path.join(import.meta.dirname, '../lists/measure-lists.mjs'), { env: process.env });
  child.send(order);
  const [figures] = await Promise.race([once(child, 'message'), once(child, 'exit').then(failed)]);
  return figures;
}

/** @returns {never} */
function failed() {
  throw new Error('the process that lists has ended without figures');
}

/** @param {string} folder @param {string} cache */
async function startServer(folder, cache) {
  const { file } = await findS3Server({ cache, env: process.env, progress: { update() {} } });
  await mkdir(path.join(folder, 'objects', BUCKET), { recursive: true });
  await mkdir(path.join(folder, 'metadata'));
  const port = await availablePort('127.0.0.1', 0, 'S3_ENDPOINT');
  const listen = ['--port', `127.0.0.1:${port}`, '--region', REGION, '--quiet', '--keep-alive'];
  const backend = ['posix', '--sidecar', path.join(folder, 'metadata'), path.join(folder, 'objects')];
  const env = {
    ...process.env,
    ROOT_ACCESS_KEY: CREDENTIALS.AWS_ACCESS_KEY_ID,
    ROOT_SECRET_KEY: CREDENTIALS.AWS_SECRET_ACCESS_KEY,
  };
  const child = spawn(file, [...listen, ...backend], { stdio: 'ignore', env });
  process.once('exit', () => child.kill());
  while (
    child.exitCode === null &&
    !(await fetch(`http://127.0.0.1:${port}/`).then(
      () => true,
      () => false,
    ))
  ) {
    await wait(50);
  }
  const stop = async () => {
    if (child.exitCode === null && child.kill()) await once(child, 'exit');
  };
  return { port, stop };
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
