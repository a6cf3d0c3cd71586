import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 500;
const REQUEST_TIMEOUT_MS = 30_000;
/** The most time for a download, and without a change of a job: on a busy machine it trains slowly, and that is no fault. */
const SILENCE_MS = 600_000;
/** The directives that the policy of the page must have (services/api/src/page-plugin.ts). */
const STRICT_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
];
/** Files that the page names, by the end of their names. */
const PAGE_FILES = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

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
    /**
     * Loads the web page with its files, as a browser would, and checks that its policy allows them and nothing of others.
     *
     * @returns {Promise<string>} a line for the report
     */
    async openPage() {
      const page = await request('/');
      const index = await page.text();
      const policy = page.headers.get('content-security-policy') ?? '';
      const missing = STRICT_POLICY.filter((directive) => !policy.split('; ').includes(directive));
      if (missing.length > 0) throw new Error(`the policy of the page lacks ${missing.join('; ')}: ${policy}`);
      if (/unsafe-|\*|https?:|data:|blob:/.test(policy)) throw new Error(`the policy of the page is lax: ${policy}`);
      if (/<script(?![^>]* src=)|<style|<[^>]* on\w+=/.test(index))
        throw new Error(`the page has inline code: ${index}`);
      const files = [...index.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, file = '']) => file);
      for (const [ending, type] of Object.entries(PAGE_FILES)) {
        if (!files.some((file) => file.endsWith(ending))) throw new Error(`the page names no ${ending}: ${index}`);
        for (const file of files.filter((name) => name.endsWith(ending))) {
          const response = await request(new URL(file, 'http://page/').pathname);
          const found = response.headers.get('content-type') ?? '';
          const bytes = (await response.arrayBuffer()).byteLength;
          if (!found.startsWith(type) || bytes === 0) throw new Error(`${file} has ${bytes} bytes of ${found}`);
        }
      }
      return `the page and its ${files.length} files are there, with ${policy}`;
    },
    /** Has a base model fetched from the hub. @param {string} repo @returns {Promise<any>} the model as the api lists it */
    async pullModel(repo) {
      const headers = { 'content-type': 'application/json' };
      const response = await request('/model-pulls', { method: 'POST', headers, body: JSON.stringify({ repo }) });
      let pull = /** @type {any} */ (await response.json());
      while (pull.ended_at === null) {
        await sleep(POLL_MS, undefined, { signal: stopped });
        pull = await get(`/model-pulls/${pull.id}`);
      }
      if (pull.status !== 'succeeded') throw new Error(`the pull of ${repo} ${pull.status}: ${JSON.stringify(pull)}`);
      const { data } = await get('/models');
      return data.find((/** @type {any} */ { name }) => name === pull.name);
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
     * @throws {Error} when it failed, or neither its status nor its step changed for {@link SILENCE_MS}
     */
    async waitForJob(id, isEnough) {
      let deadline = Date.now() + SILENCE_MS;
      let seen = '';
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
          if (last !== seen) deadline = Date.now() + SILENCE_MS;
          seen = last;
        }
        await sleep(POLL_MS);
      }
      throw new Error(
        `job ${id} did not reach the condition, and has not changed for ${SILENCE_MS / 1000} s; last: ${last}`,
      );
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
    download: async (call) => Buffer.from(await (await request(call, {}, SILENCE_MS)).arrayBuffer()),
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

/**
 * The workers that started a job, by its events.
 *
 * @param {any[]} events of a job
 * @returns {string[]} their names, in order
 */
export function startsOf(events) {
  return events.filter(({ type }) => type === 'job-started').map(({ data }) => data.worker);
}

/**
 * Checks that no step was trained twice: each worker continued where the one before had ended. Steps are recorded about once a second, so
 * some are not among the events.
 *
 * @param {any[]} events of a job that has succeeded
 * @param {number} steps that it has
 * @throws {Error} naming them
 */
export function noStepTwice(events, steps) {
  const trained = events.filter(({ type }) => type === 'step-finished').map(({ data }) => data.step);
  const isRising = trained.every((step, i) => i === 0 || step > trained[i - 1]);
  if (!isRising || trained.at(-1) !== steps) throw new Error(`its steps were ${trained.join(', ')}, of ${steps}`);
}
