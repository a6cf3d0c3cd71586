// A fresh process that lists the adapters of a bucket with the code of a checkout. A child of test/bench/benches/lists.mjs.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * Counts the HTTP requests of this process while something runs: lists of a bucket, and all others.
 *
 * @template Result
 * @param {() => Promise<Result>} work
 * @returns {Promise<{ result: Result, lists: number, others: number, seconds: number }>}
 */
export async function countRequests(work) {
  const counts = { lists: 0, others: 0 };
  const onStart = (/** @type {unknown} */ message) => {
    const { request } = /** @type {{ request: import('node:http').ClientRequest }} */ (message);
    if (request.path.includes('list-type=2')) counts.lists++;
    else counts.others++;
  };
  const begin = performance.now();
  subscribe('http.client.request.start', onStart);
  try {
    const result = await work();
    return { result, ...counts, seconds: (performance.now() - begin) / 1_000 };
  } finally {
    unsubscribe('http.client.request.start', onStart);
  }
}

/**
 * @typedef {{ root: string, dataDir: string, s3: import('../../packages/storage/dist/index.js').S3Settings, owner: string }} ListsOrder
 * @typedef {Record<string, { lists: number, others: number, seconds: number }>} ListsFigures
 */

// The child.
if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [order] = /** @type {[ListsOrder]} */ (await once(process, 'message'));
  const { root, dataDir, s3, owner } = order;
  const { openStores } = await import(path.join(root, 'packages/storage/dist/index.js'));
  const { AdapterLibrary } = await import(path.join(root, 'services/registry/dist/adapters/adapter-library.js'));
  const stores = await openStores({ dataDir, s3: { ...s3, cacheBytes: 2 ** 30 } });
  const library = new AdapterLibrary({ store: await stores.open('adapters'), onBroken: () => {} });
  const admin = { sees: 'all', owner: null };

  /** @type {ListsFigures} */
  const figures = {};
  const count = async (/** @type {string} */ name, /** @type {() => Promise<unknown>} */ work) => {
    const { result, ...counts } = await countRequests(work);
    figures[name] = counts;
    return /** @type {{ next: string }} */ (result);
  };
  const { next } = await count('first page of all, of a new process', () => library.list({ limit: 20 }, admin));
  await count('the same again', () => library.list({ limit: 20 }, admin));
  await count('next page', () => library.list({ limit: 20, after: next }, admin));
  await count('first page of a key', () => library.list({ limit: 20 }, { sees: 'own', owner }));
  await count('bytes of a key and of all', () => library.usage(owner));
  await count('the same once more', () => library.usage(owner));
  stores.close();
  process.send?.(figures);
  process.disconnect();
}
