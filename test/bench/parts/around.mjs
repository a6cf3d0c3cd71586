import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdir, open, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

/**
 * The time around a training, measured through the HTTP API of a stack of its own.
 *
 * @typedef {object} AroundResult times in seconds
 * @property {JobTimes} coldJob 3 steps on the large model, which is not in memory
 * @property {JobTimes} warmJob the same again
 * @property {JobTimes} smallJob one step on the small model, which is in memory
 * @property {number} mergeSeconds
 * @property {{ bytes: number, seconds: number, cpuSeconds: number }} download of the merged model; processor time of api and registry
 * @property {{ bytes: number, rows: number, uploadSeconds: number, answerSeconds: number, tokenizedSeconds: number }} rows
 *
 * @typedef {object} JobTimes from sending POST /jobs, in seconds
 * @property {number} answered
 * @property {number} report
 * @property {number} firstStep until its event
 * @property {number} step the time of one step: that of the last one
 * @property {number} published from the last step's event to that of the adapter
 * @property {number} whole
 */

const STEPS = 3;
const ROWS_PER_STEP = 2;

/**
 * @param {{ root: string, folder: string, model: string, largeModel: string, chats: string, adapterTo?: string }} options
 *   `root`: the checkout whose stack is measured; `folder`: an empty one; `chats`: JSONL;
 *   `adapterTo`: where the adapter of the large model is copied
 * @returns {Promise<AroundResult>}
 */
export async function around({ root, folder, model, largeModel, chats, adapterTo }) {
  const dataDir = path.join(folder, 'data');
  const env = { MERGED_CACHE_BYTES: String(2 ** 34) };
  const stack = await startBenchStack({ root, folder, models: [model, largeModel], env });
  const { client } = stack;
  try {
    const text = path.basename(largeModel);
    const small = path.basename(model);
    const dataset = await client.uploadDataset({ text: equalRows(STEPS * ROWS_PER_STEP) });
    const large = {
      base_model: text,
      dataset: dataset.id,
      lora: { r: 16, alpha: 32, target_modules: 'all-linear' },
      training: { batch_size: ROWS_PER_STEP, epochs: 1, precision: /** @type {const} */ ('bfloat16') },
    };
    const cold = await timedJob(client, large);
    const warm = await timedJob(client, { ...large, training: { ...large.training, seed: 1 } });

    const began = performance.now();
    const files = await json(`${stack.apiUrl}/adapters/${cold.adapter}/files?weights=merged`);
    const mergeSeconds = (performance.now() - began) / 1e3;
    if (!Array.isArray(files.data)) throw new Error(`merging failed: ${JSON.stringify(files)}`);
    const download = await timedDownload(`${stack.apiUrl}/adapters/${cold.adapter}?weights=merged`, root);
    if (adapterTo !== undefined) await copyFolder(path.join(dataDir, 'adapters', cold.adapter), adapterTo);

    const smallJob = {
      base_model: small,
      dataset: dataset.id,
      training: { batch_size: STEPS * ROWS_PER_STEP, epochs: 1 },
    };
    await timedJob(client, smallJob);
    const oneStep = await timedJob(client, { ...smallJob, training: { ...smallJob.training, seed: 1 } });
    const rows = await timedRows(client, small, chats);
    return { coldJob: cold.times, warmJob: warm.times, smallJob: oneStep.times, mergeSeconds, download, rows };
  } finally {
    await stack.stop();
  }
}

/**
 * A whole stack of a checkout, once its worker is ready, and a client for it.
 *
 * @param {{ root: string, folder: string, models: string[], env?: NodeJS.ProcessEnv }} options `folder`: an empty one
 * @returns {Promise<{ apiUrl: string, client: ReturnType<typeof import('../../../packages/client/dist/index.js').createClient>, stop(): Promise<void> }>}
 */
export async function startBenchStack({ root, folder, models, env = {} }) {
  const { startStack } = await import(path.join(root, 'scripts/stack/start-stack.mjs'));
  const { createClient } = await import(path.join(root, 'packages/client/dist/index.js'));
  const modelsDir = path.join(folder, 'models');
  // A folder of links: what a process remembers of a model beside its files is forgotten with the folder.
  for (const source of models) await linkFolder(source, path.join(modelsDir, path.basename(source)));
  const { apiUrl, stop } = await startStack({
    dataDir: path.join(folder, 'data'),
    modelsDir,
    env: { ...process.env, ...env },
  });
  const client = createClient({ baseUrl: apiUrl });
  while ((await client.machines()).length === 0) await wait(100);
  return { apiUrl, client, stop };
}

/**
 * @param {any} client @param {object} request
 * @returns {Promise<{ adapter: string, times: JobTimes }>}
 */
export async function timedJob(client, request) {
  const sent = performance.now();
  const since = () => (performance.now() - sent) / 1e3;
  const job = await client.createJob(request);
  const answered = since();
  /** @type {{ type: string, at: number }[]} */
  const events = [];
  for await (const { type } of client.events(job.id)) events.push({ type, at: since() });
  const timesOf = (/** @type {string} */ wanted) => events.filter(({ type }) => type === wanted).map(({ at }) => at);
  const { adapter, error } = await client.getJob(job.id);
  if (adapter === null) throw new Error(`the job failed: ${error?.message}`);
  const steps = timesOf('step-finished');
  const [first = 0] = steps;
  const last = steps.at(-1) ?? 0;
  const published = timesOf('adapter-published')[0] ?? 0;
  const times = {
    answered,
    report: timesOf('report-ready')[0] ?? 0,
    firstStep: first,
    step: steps.length > 1 ? last - (steps.at(-2) ?? 0) : 0,
    published: published - last,
    whole: published,
  };
  return { adapter, times };
}

/**
 * Uploads chats, and queues a job on them until they are tokenized.
 *
 * @param {any} client @param {string} baseModel @param {string} chats
 */
async function timedRows(client, baseModel, chats) {
  const text = await readFile(chats, 'utf8');
  const blob = new Blob([text]);
  const beganUpload = performance.now();
  const dataset = await client.uploadDataset({ blob });
  const uploadSeconds = (performance.now() - beganUpload) / 1e3;
  const began = performance.now();
  const request = { base_model: baseModel, dataset: dataset.id, training: { on_overflow: 'truncate' } };
  const job = await client.createJob(request);
  const answerSeconds = (performance.now() - began) / 1e3;
  for await (const event of client.events(job.id)) if (event.type === 'report-ready') break;
  const tokenizedSeconds = (performance.now() - began) / 1e3;
  await client.cancelJob(job.id);
  return { bytes: dataset.bytes, rows: dataset.rows, uploadSeconds, answerSeconds, tokenizedSeconds };
}

/** @param {string} url @param {string} root */
async function timedDownload(url, root) {
  const processes = await servicesOf(root, ['api', 'registry']);
  const before = await cpuSeconds(processes);
  const began = performance.now();
  let bytes = 0;
  const [response] = await once(get(url), 'response');
  if (response.statusCode !== 200) throw new Error(`${url} answered ${response.statusCode}`);
  response.on('data', (/** @type {Buffer} */ chunk) => {
    bytes += chunk.length;
  });
  await once(response, 'end');
  const seconds = (performance.now() - began) / 1e3;
  return { bytes, seconds, cpuSeconds: (await cpuSeconds(processes)) - before };
}

/**
 * The process ids of services that run from a checkout.
 *
 * @param {string} root @param {string[]} services
 */
async function servicesOf(root, services) {
  const ids = [];
  for (const id of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${id}/cmdline`, 'utf8').catch(() => '');
    const isOne = services.some((name) =>
      command.split('\0').includes(path.join(root, `services/${name}/dist/main.js`)),
    );
    if (isOne) ids.push(id);
  }
  if (ids.length !== services.length) throw new Error(`${services.join(' and ')} are not running once each`);
  return ids;
}

/** @param {string[]} processes */
async function cpuSeconds(processes) {
  let ticks = 0;
  for (const id of processes) {
    const fields = (await readFile(`/proc/${id}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

/** @param {string} url */
async function json(url) {
  const [response] = await once(get(url), 'response');
  let text = '';
  for await (const chunk of response) text += chunk;
  return JSON.parse(text);
}

/** @param {string} from @param {string} to */
export async function linkFolder(from, to) {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    if (!name.startsWith('.')) await symlink(path.join(from, name), path.join(to, name));
  }
}

/** @param {string} from @param {string} to */
async function copyFolder(from, to) {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) await copyFile(path.join(from, name), path.join(to, name));
}

/**
 * Rows of the same length, so that steps take the same time.
 *
 * @param {number} count
 */
function equalRows(count) {
  return Array.from({ length: count }, (_, row) => {
    const words = Array.from({ length: 100 }, (_word, i) => ['red', 'green', 'blue', 'black'][(row * 7 + i * i) % 4]);
    return `${JSON.stringify({ text: words.join(' ') })}\n`;
  }).join('');
}

/**
 * Copies a model's weights as a plain program would: read, sha256, write, sync.
 *
 * @param {{ from: string, to: string }} options
 */
export async function copyWithDigest({ from, to }) {
  await mkdir(to, { recursive: true });
  const block = Buffer.allocUnsafe(2 ** 23);
  const began = performance.now();
  let bytes = 0;
  for (const name of (await readdir(from)).filter((file) => file.endsWith('.safetensors'))) {
    const source = await open(path.join(from, name));
    const target = await open(path.join(to, name), 'w');
    const hash = createHash('sha256');
    for (;;) {
      const { bytesRead } = await source.read(block, 0, block.length, null);
      if (bytesRead === 0) break;
      const part = block.subarray(0, bytesRead);
      hash.update(part);
      await target.write(part);
      bytes += bytesRead;
    }
    await target.sync();
    await source.close();
    await target.close();
    hash.digest();
  }
  return { bytes, seconds: (performance.now() - began) / 1e3 };
}

/**
 * Writes chats of the given size, made from question and answer of other rows: numbers and order differ, so that no two are
 * the same and words repeat as in real text.
 *
 * @param {{ rows: { prompt?: string, completion?: string, messages?: { content: string }[] }[], bytes: number, file: string }} options
 */
export async function writeChats({ rows, bytes, file }) {
  const texts = rows.map(({ prompt, completion, messages }) =>
    messages === undefined ? [prompt ?? '', completion ?? ''] : messages.map(({ content }) => content),
  );
  let state = 1;
  const random = (/** @type {number} */ below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const varied = (/** @type {string} */ text) => text.replace(/\d+/g, (number) => String(random(10 ** number.length)));
  const lines = [];
  for (let written = 0; written < bytes; ) {
    const turns = texts[random(texts.length)] ?? [];
    const messages = turns.map((text, turn) => ({
      role: turn % 2 === 0 ? 'user' : 'assistant',
      content: varied(text),
    }));
    const line = `${JSON.stringify({ messages })}\n`;
    lines.push(line);
    written += Buffer.byteLength(line);
  }
  await writeFile(file, lines.join(''));
}

const run = promisify(execFile);

/**
 * A new API key that may train.
 *
 * @param {{ root: string, dataDir: string }} stack the checkout, and the data folder of its stack
 * @param {string} name
 * @returns {Promise<{ id: import('../../../packages/contracts/dist/index.js').KeyId, token: string }>}
 */
export async function createBenchKey({ root, dataDir }, name) {
  const create = ['create', '--name', name, '--role', 'train', '--json'];
  const env = { ...process.env, DATA_DIR: dataDir };
  const { stdout } = await run(process.execPath, [path.join(root, 'scripts/keys.mjs'), ...create], { env });
  return JSON.parse(stdout.slice(stdout.indexOf('{\n')));
}
