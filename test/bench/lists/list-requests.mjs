import { subscribe, unsubscribe } from 'node:diagnostics_channel';

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
