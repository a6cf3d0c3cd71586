// `helm test`: trains a few steps through the api, checks that the adapter can be downloaded, and deletes what it made.
import { setTimeout as sleep } from 'node:timers/promises';

const { TEST_API_URL: url, TEST_API_KEY: key, TEST_BASE_MODEL: baseModel, TEST_TIMEOUT_SECONDS: seconds } = process.env;
const deadline = AbortSignal.timeout(Number(seconds) * 1000);

/** @param {string} call @param {RequestInit} [init] */
async function request(call, init = {}) {
  const headers = { ...init.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(`${url}${call}`, { ...init, headers, signal: deadline });
  if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${call}: ${response.status} ${await response.text()}`);
  return response;
}
/** @param {string} call @param {unknown} body @returns {Promise<any>} */
const post = async (call, body) =>
  await (
    await request(call, {
      method: 'POST',
      headers: { 'content-type': typeof body === 'string' ? 'application/x-ndjson' : 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })
  ).json();

const rows = Array.from({ length: 8 }, (_, number) => ({
  messages: [
    { role: 'user', content: `What comes after ${number}?` },
    { role: 'assistant', content: `${number + 1}` },
  ],
}));
const dataset = await post('/datasets', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
console.log(`uploaded ${dataset.id}`);
let job = await post('/jobs', {
  name: 'helm-test',
  base_model: baseModel,
  dataset: dataset.id,
  lora: { r: 4, alpha: 8 },
  training: { max_steps: 3, batch_size: 2, max_seq_length: 128 },
});
console.log(`queued ${job.id}`);
while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
  await sleep(2000, undefined, { signal: deadline });
  job = /** @type {any} */ (await (await request(`/jobs/${job.id}`)).json());
}
if (job.status !== 'succeeded') throw new Error(`the job ${job.status}: ${JSON.stringify(job.error)}`);
const bytes = (await (await request(`/adapters/${job.adapter}`)).arrayBuffer()).byteLength;
if (bytes === 0) throw new Error('the adapter is empty');
console.log(`trained ${job.progress.step} steps; the adapter has ${bytes} bytes`);
for (const call of [`/adapters/${job.adapter}`, `/jobs/${job.id}`, `/datasets/${dataset.id}`]) {
  await request(call, { method: 'DELETE' });
}
