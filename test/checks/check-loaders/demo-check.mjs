import { spawn } from 'node:child_process';
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { probeServer } from '../../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { availablePort } from '../../../scripts/stack/ports.mjs';
import {
  BFLOAT16,
  baseGguf,
  downloadFolders,
  FLOAT32,
  manyAnswersOf,
  ownAnswers,
  PEER_ENVIRONMENT,
  reasonIn,
  TOKENS,
} from './answers.mjs';

/** The repository of the demo model on the hub. */
const DEMO_REPOSITORY = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const PROMPTS = ['On 3 May 2019, the', 'Write the date in ISO format: May the thirtieth, 1900', 'Once upon a time'];
/** Enough steps that the adapter answers otherwise than the base. In float32, in which the service then answers too. */
const JOB = {
  base_model: DEMO_MODEL_NAME,
  name: 'dates',
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: { max_steps: 40, batch_size: 8, learning_rate: 1e-3, max_seq_length: 128, precision: 'float32' },
};

/**
 * The demo model with an adapter that is trained here: answers in float32, and `lora probe` against servers.
 * @param {{ client: any, folder: string, peers: import('./answers.mjs').Peers, report: import('./answers.mjs').Report,
 *   signal: AbortSignal }} options
 */
export async function checkDemo({ client, folder, peers, report, signal }) {
  const dataset = await client.uploadDataset({ file: path.join(ROOT_DIR, 'examples/dates/train.jsonl') });
  const job = await client.waitForJob((await client.createJob({ ...JOB, dataset: dataset.id })).id, { signal });
  if (job.adapter === null) throw new Error(`the job ${job.status}: ${job.error?.message}`);
  const manifest = await client.manifest(job.adapter);
  const ours = await ownAnswers(client, job.adapter, PROMPTS);
  const base = path.join(ROOT_DIR, 'models', DEMO_MODEL_NAME);
  const { adapter, merged } = await downloadFolders(client, job.adapter, path.join(folder, 'demo'), signal);
  const common = { prompts: PROMPTS, tokens: TOKENS, length: 64 };
  const jobs = [
    { ...common, model: base, adapter },
    { ...common, model: merged },
  ];
  // The base model is in bfloat16, so the weights of the merged one are rounded to it.
  const theirs =
    peers.transformers === null ? [] : await manyAnswersOf(peers.transformers, 'transformers_peft.py', jobs, signal);
  const [withPeft = { error: 'left out' }, alone = { error: 'left out' }] = theirs;
  if (peers.transformers !== null) await checkQuantized(dataset.id);
  if (theirs.length > 0) {
    report.compare('demo', 'PEFT, adapter', withPeft, [['ours', ours, FLOAT32]]);
    report.compare('demo', 'transformers, merged', alone, [['ours', ours, BFLOAT16]]);
  }
  if (peers.vllm !== null) {
    const [withAdapter, mergedAlone] = await manyAnswersOf(peers.vllm, 'vllm_cpu.py', jobs, signal);
    report.compare('demo', 'vLLM, base and adapter', withAdapter, [
      ['PEFT', withPeft, FLOAT32],
      ['ours', ours, FLOAT32],
    ]);
    report.compare('demo', 'vLLM, merged', mergedAlone, [
      ['transformers', alone, FLOAT32],
      ['ours', ours, BFLOAT16],
    ]);
  }
  /** An adapter of the model in 4 bits: on the model that bitsandbytes quantizes, and merged. @param {string} rows */
  async function checkQuantized(rows) {
    const training = { ...JOB.training, base_quantization: 'nf4' };
    const made = await client.waitForJob((await client.createJob({ ...JOB, dataset: rows, training })).id, { signal });
    if (made.adapter === null) throw new Error(`the job ${made.status}: ${made.error?.message}`);
    const quantized = await downloadFolders(client, made.adapter, path.join(folder, 'demo-nf4'), signal);
    const answers = await ownAnswers(client, made.adapter, PROMPTS);
    const python = /** @type {string} */ (peers.transformers);
    const [onBase = { error: 'left out' }, mergedAlone = { error: 'left out' }] = await manyAnswersOf(
      python,
      'transformers_peft.py',
      [
        { ...common, model: base, adapter: quantized.adapter, nf4: true },
        { ...common, model: quantized.merged },
      ],
      signal,
    );
    report.compare('demo', 'PEFT, bitsandbytes, adapter', onBase, [['ours', answers, FLOAT32]]);
    report.compare('demo', 'transformers, merged nf4', mergedAlone, [['ours', answers, BFLOAT16]]);
  }

  /** @param {string} what @param {Promise<{ url: string, stop: () => Promise<void> }>} starting @param {string} [model] by default its first */
  const probe = async (what, starting, model) => {
    let server;
    try {
      server = await starting;
    } catch (error) {
      signal.throwIfAborted();
      report.failure('demo', what, `FAILED: ${error instanceof Error ? error.message : error}`);
      return;
    }
    try {
      const options = { url: `${server.url}/v1`, model, signal };
      const { verdict, adapter_distance, base_distance } = await probeServer(manifest, options);
      const [near, far] = [adapter_distance, base_distance].map((value) => value?.toFixed(3) ?? 'unknown');
      const line = `${near} from the adapter, ${far} from the base`;
      if (verdict === 'adapter') report.line('demo', what, `lora probe: match, ${line}`);
      else report.failure('demo', what, `lora probe: NO MATCH, ${verdict}, ${line}`);
    } finally {
      await server.stop();
    }
  };
  if (peers.vllm !== null) {
    const { name } = manifest;
    const lora = ['--enable-lora', '--lora-modules', `${name}=${adapter}`];
    await probe('vLLM server, with adapter', vllmServer(peers.vllm, { model: base, lora }, signal));
    await probe('vLLM server, merged', vllmServer(peers.vllm, { model: merged }, signal));
    const found = resolvingServer(
      peers.vllm,
      client,
      { folder: path.join(folder, 'resolved'), id: manifest.id },
      signal,
    );
    await probe('vLLM server, resolver', found, manifest.id);
  }
  if (peers.llama === null) return;
  for (const type of /** @type {const} */ (['f32', 'f16', 'bf16', 'q8_0'])) {
    const file = path.join(folder, 'demo', `merged-${type}.gguf`);
    await client.downloadAdapter(manifest.id, { file }, { weights: 'merged', format: 'gguf', type, signal });
    await probe(`llama.cpp, merged ${type}`, llamaServer(peers.llama, { model: file }, signal));
  }
  const file = path.join(folder, 'demo', 'adapter.gguf');
  await client.downloadAdapter(manifest.id, { file }, { format: 'gguf', signal });
  const model = await baseGguf(base, path.join(folder, 'demo', 'base.gguf'));
  await probe('llama.cpp, base and adapter', llamaServer(peers.llama, { model, adapter: file }, signal));
}

/** vLLM imports for five minutes where the processor is busy. */
const READY_TIMEOUT_MS = 900_000;
const STOP_TIMEOUT_MS = 15_000;
const TAIL_LINES = 8;
const LLAMA_SCRIPT = fileURLToPath(new URL('llama_cpp.py', import.meta.url));

/**
 * A server of llama.cpp, which says its address.
 * @param {string} python @param {{ model: string, adapter?: string }} files @param {AbortSignal} signal
 */
function llamaServer(python, files, signal) {
  const program = [LLAMA_SCRIPT, JSON.stringify({ ...files, serve: true })];
  return server('llama.cpp', python, program, signal, (line) =>
    line.startsWith('{"url"') ? /** @type {string} */ (JSON.parse(line).url) : null,
  );
}

/**
 * The server of `vllm serve`, in the dtype of the model, with a cache of 128 MiB and without compiling, so that it starts fast.
 * The command itself does not start in `vllm-cpu`: it looks for a package named vllm.
 * @param {string} python
 * @param {{ model: string, lora?: string[], cwd?: string, env?: Record<string, string> }} options `lora`: the options about adapters
 * @param {AbortSignal} signal
 */
async function vllmServer(python, { model, lora = [], cwd, env }, signal) {
  const port = await availablePort('127.0.0.1', 0, 'the port of vLLM');
  const program = ['-m', 'vllm.entrypoints.openai.api_server', '--model', model, ...lora];
  const address = ['--host', '127.0.0.1', '--port', String(port)];
  const small = ['--enforce-eager', '--max-model-len', '512', '--max-num-seqs', '2', '--kv-cache-memory-bytes', '128M'];
  const ready = (/** @type {string} */ line) =>
    line.includes('Application startup complete') ? `http://127.0.0.1:${port}` : null;
  return await server('vLLM', python, [...program, ...address, ...small], signal, ready, { cwd, env });
}

/**
 * A server of vLLM that finds adapters in a folder by the name of the repository from which it serves their base model.
 * @param {string} python @param {any} client @param {{ folder: string, id: string }} adapter @param {AbortSignal} signal
 */
async function resolvingServer(python, client, { folder, id }, signal) {
  const adapters = path.join(folder, 'adapters');
  await client.downloadAdapter(id, { folder: path.join(adapters, id) }, { base_model: DEMO_REPOSITORY, signal });
  // The folder that vLLM finds under the name of the repository, without the hub.
  const base = path.join(folder, DEMO_REPOSITORY);
  await mkdir(path.dirname(base), { recursive: true });
  await symlink(path.join(ROOT_DIR, 'models', DEMO_MODEL_NAME), base);
  const env = {
    VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'true',
    VLLM_PLUGINS: 'lora_filesystem_resolver',
    VLLM_LORA_RESOLVER_CACHE_DIR: adapters,
  };
  return await vllmServer(python, { model: DEMO_REPOSITORY, lora: ['--enable-lora'], cwd: folder, env }, signal);
}

/**
 * Starts a server in a process group of its own, and waits for the line that says that it is ready.
 * @param {string} name @param {string} command @param {string[]} program @param {AbortSignal} signal
 * @param {(line: string) => string | null} addressIn
 * @param {{ cwd?: string | undefined, env?: Record<string, string> | undefined }} [options] where it runs, and further variables
 * @returns {Promise<{ url: string, stop: () => Promise<void> }>}
 */
async function server(name, command, program, signal, addressIn, { cwd, env } = {}) {
  signal.throwIfAborted();
  const variables = { ...PEER_ENVIRONMENT, ...env };
  const child = spawn(command, program, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, cwd, env: variables });
  /** @type {string[]} */
  const tail = [];
  const exited = new Promise((resolve) => {
    child.once('exit', resolve);
    child.once('error', resolve);
  });
  const kill = (/** @type {NodeJS.Signals} */ how) => {
    try {
      process.kill(-(/** @type {number} */ (child.pid)), how);
    } catch {
      // It has ended.
    }
  };
  const stop = async () => {
    const timer = setTimeout(kill, STOP_TIMEOUT_MS, 'SIGKILL');
    kill('SIGTERM');
    await exited;
    clearTimeout(timer);
    kill('SIGKILL');
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]);
  try {
    const url = await new Promise((resolve, reject) => {
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          tail.push(line);
          if (tail.length > TAIL_LINES) tail.shift();
          const address = addressIn(line);
          if (address !== null) resolve(address);
        });
      }
      void exited.then((how) =>
        reject(new Error(`the server of ${name} ended with ${how}: ${reasonIn(tail) ?? tail.at(-1)}`)),
      );
      limit.addEventListener('abort', () => reject(new Error(`the server of ${name} was not ready: ${limit.reason}`)));
    });
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
