import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 500;
const REQUEST_TIMEOUT_MS = 30_000;
const STEP_TIMEOUT_MS = 600_000;

/**
 * Calls of the public API with `fetch` alone, because this test is not about the client.
 *
 * @param {string} apiUrl
 * @param {AbortSignal} stopped
 */
export function createApiCalls(apiUrl, stopped) {
  /** @param {string} call @param {RequestInit} [init] @param {number} [timeoutMs] */
  const request = async (call, init = {}, timeoutMs = REQUEST_TIMEOUT_MS) => {
    const signal = AbortSignal.any([stopped, AbortSignal.timeout(timeoutMs)]);
    const response = await fetch(`${apiUrl}${call}`, { ...init, signal });
    if (!response.ok) throw new Error(`${call} answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
    return response;
  };
  /** @param {string} call @returns {Promise<any>} */
  const get = async (call) => await (await request(call, { headers: { accept: 'application/json' } })).json();

  const calls = {
    get,
    /** Opens the web page with its script and style sheet. @returns {Promise<string>} a line for the report */
    async openPage() {
      const index = await (await request('/')).text();
      const files = [...index.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)].map(([, file]) => file);
      if (files.length < 2) throw new Error(`the page names ${files.length} of its files: ${index.slice(0, 500)}`);
      for (const file of files) await (await request(`/${file}`)).arrayBuffer();
      return `the page has ${files.length} files`;
    },
    /** @param {Buffer} rows JSONL @returns {Promise<string>} its id */
    async uploadDataset(rows) {
      const headers = { 'content-type': 'application/x-ndjson' };
      const response = await request('/datasets', { method: 'POST', headers, body: new Uint8Array(rows) });
      return /** @type {{ id: string }} */ (await response.json()).id;
    },
    /** @param {object} job @returns {Promise<string>} its id */
    async createJob(job) {
      const headers = { 'content-type': 'application/json' };
      const response = await request('/jobs', { method: 'POST', headers, body: JSON.stringify(job) });
      return /** @type {{ id: string }} */ (await response.json()).id;
    },
    /**
     * Polls a job, also while a restart interrupts the api.
     *
     * @param {string} id
     * @param {(job: any) => boolean} isEnough
     * @returns {Promise<any>} the job
     * @throws {Error} when it failed, or did not reach the condition in time
     */
    async waitForJob(id, isEnough) {
      const deadline = Date.now() + STEP_TIMEOUT_MS;
      let last = 'nothing yet';
      while (Date.now() < deadline) {
        stopped.throwIfAborted();
        const job = await get(`/jobs/${id}`).catch((error) => {
          last = error.message;
        });
        if (job) {
          if (['failed', 'cancelled'].includes(job.status)) throw new Error(`job ${id}: ${JSON.stringify(job.error)}`);
          if (isEnough(job)) return job;
          last = `${job.status}, step ${job.progress?.step ?? 0}`;
        }
        await sleep(POLL_MS);
      }
      throw new Error(`job ${id} did not reach the condition within ${STEP_TIMEOUT_MS / 1000} s; last: ${last}`);
    },
    /** @param {string} id @returns {Promise<any[]>} every event of the job */
    async events(id) {
      const events = [];
      for (let after = ''; ; ) {
        const page = await get(`/jobs/${id}/events${after}`);
        events.push(...page.data);
        if (!page.has_more) return events;
        after = `?after=${page.data.at(-1).id}`;
      }
    },
    /** @param {string} call @returns {Promise<Buffer>} a complete download; a merge may come first */
    download: async (call) => Buffer.from(await (await request(call, {}, STEP_TIMEOUT_MS)).arrayBuffer()),
  };
  return calls;
}

/**
 * @param {Buffer} tar
 * @returns {Map<string, number>} the size of each file by name
 */
export function tarEntries(tar) {
  const BLOCK = 512;
  const entries = new Map();
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const header = tar.subarray(at, at + BLOCK);
    const name = header.toString('utf8', 0, 100).replace(/\0.*$/s, '');
    if (name === '') break;
    const size = Number.parseInt(header.toString('ascii', 124, 136), 8);
    if (!Number.isInteger(size)) throw new Error(`the tar has no size for ${name}`);
    entries.set(name.split('/').at(-1) ?? name, size);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return entries;
}
