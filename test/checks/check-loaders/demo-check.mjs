import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { probeServer } from '../../../packages/client/dist/index.js';
import { DEMO_MODEL_NAME } from '../../../scripts/setup/demo-model.mjs';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { BFLOAT16, baseGguf, downloadFolders, FLOAT32, manyAnswersOf, ownAnswers, TOKENS } from './answers.mjs';
import { llamaServer, vllmServer } from './servers.mjs';

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
