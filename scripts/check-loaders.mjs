// npm run check-loaders: loads what the service writes in PEFT and transformers, llama.cpp and vLLM, and compares their answers with
// its own: a tiny model of each family with an imported adapter, and the demo model with an adapter that is trained here. Peers come
// from PyPI into virtual environments (some gigabytes); LOADERS_DIR is where they are kept. --without vllm leaves one out.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createClient, probeServer } from '../packages/client/dist/index.js';
import { openGguf, writeGgufModel } from '../packages/gguf/dist/index.js';
import { readModelFolder } from '../packages/model-folder/dist/index.js';
import { addFamily, FAMILIES_DIR, familyCases } from './check-loaders/families.mjs';
import { answersOf, pythonOf } from './check-loaders/venvs.mjs';
import { DEMO_MODEL_NAME } from './setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from './setup/locations.mjs';
import { runAsCommand } from './setup.mjs';
import { interruption } from './stack/interruption.mjs';
import { startStack } from './stack/start-stack.mjs';

const TOKENS = 2;
/** Of a log-probability between two peers, which compute in float32. */
const FLOAT32 = 0.002;
/** The service answers in bfloat16, where that is faster on the machine. */
const BFLOAT16 = 0.25;
const DEMO_PROMPTS = [
  'On 3 May 2019, the',
  'Write the date in ISO format: May the thirtieth, 1900',
  'Once upon a time',
];
/** Enough steps that the adapter answers otherwise than the base. */
const DEMO_JOB = {
  base_model: DEMO_MODEL_NAME,
  name: 'dates',
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: { max_steps: 40, batch_size: 8, learning_rate: 1e-3, max_seq_length: 128 },
};

/**
 * @typedef {{ text: string, steps: Record<string, number>[] }} Answer
 * @typedef {Answer[] | { error: string }} Answers
 */

const { values: flags } = parseArgs({
  options: { without: { type: 'string', multiple: true }, only: { type: 'string', multiple: true } },
});
const root = process.env.LOADERS_DIR ?? path.join(cacheDir(process.env), 'loaders');
let failures = 0;

await runAsCommand(async () => {
  const signal = interruption();
  const folder = await mkdtemp(path.join(tmpdir(), 'check-loaders-'));
  try {
    await checkAll(folder, signal);
    console.log(failures === 0 ? '\nall match' : `\n${failures} do not match`);
    return failures === 0 ? 0 : 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/** @param {string} folder @param {AbortSignal} signal */
async function checkAll(folder, signal) {
  const names = (await familyCases()).filter((name) => flags.only === undefined || flags.only.includes(name));
  const modelsDir = path.join(folder, 'models');
  const prompts = new Map();
  for (const name of names) prompts.set(name, await addFamily(name, modelsDir));
  const peers = {
    transformers: await peer('transformers'),
    llama: await peer('llama'),
    vllm: await peer('vllm'),
  };
  if (names.length > 0) {
    const stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir, signal });
    try {
      const client = createClient({ baseUrl: stack.apiUrl });
      for (const name of names) await checkFamily({ name, client, folder, prompts: prompts.get(name), peers, signal });
    } finally {
      await stack.stop();
    }
  }
  if (flags.only !== undefined && !flags.only.includes('demo')) return;
  const demo = await startStack({
    dataDir: path.join(folder, 'demo-data'),
    modelsDir: path.join(ROOT_DIR, 'models'),
    signal,
  });
  try {
    await checkDemo({ client: createClient({ baseUrl: demo.apiUrl }), folder, peers, signal });
  } finally {
    await demo.stop();
  }
}

/** @param {'transformers' | 'llama' | 'vllm'} name */
async function peer(name) {
  return flags.without?.includes(name) ? null : await pythonOf(root, name);
}

/** @param {any} options */
async function checkFamily({ name, client, folder, prompts, peers, signal }) {
  const base = path.join(folder, 'models', name);
  const adapter = await client.importAdapter(
    { folder: path.join(FAMILIES_DIR, name, 'adapter_trained') },
    { base_model: name },
  );
  const ours = await ownAnswers(client, adapter.id, prompts);
  const peft = path.join(folder, name, 'adapter');
  const merged = path.join(folder, name, 'merged');
  await client.downloadAdapter(adapter.id, { folder: peft }, { signal });
  await client.downloadAdapter(adapter.id, { folder: merged }, { weights: 'merged', signal });
  const common = { prompts, tokens: TOKENS };
  /** @type {Answers} */
  let theirs = { error: 'left out' };
  if (peers.transformers !== null) {
    const jobs = [
      { ...common, model: base, adapter: peft },
      { ...common, model: merged },
    ];
    const [withPeft, alone] = await manyAnswers(peers.transformers, jobs, signal);
    theirs = alone;
    compare(name, 'PEFT, adapter', withPeft, ['ours', ours, BFLOAT16]);
    compare(name, 'transformers, merged', alone, ['ours', ours, BFLOAT16], ['PEFT', withPeft, FLOAT32]);
  }
  if (peers.llama === null) return;
  /** @param {'adapter' | 'merged'} weights @param {string} type */
  const gguf = async (weights, type) => {
    const file = path.join(folder, name, `${weights}-${type}.gguf`);
    await client.downloadAdapter(adapter.id, { file }, { weights, format: 'gguf', type, signal });
    return file;
  };
  const refused = await gguf('merged', 'f32').then(
    () => null,
    (/** @type {{ code: string, message: string }} */ error) => error,
  );
  if (refused !== null) {
    if (refused.code !== 'model_not_supported') failures++;
    return report(name, 'llama.cpp', `refused: ${refused.message}`);
  }
  const model = path.join(folder, name, 'merged-f32.gguf');
  const references = /** @type {[string, Answers, number][]} */ ([
    ['ours', ours, BFLOAT16],
    ['transformers', theirs, FLOAT32],
  ]);
  const ofModel = await answersOf(peers.llama, 'llama_cpp.py', { ...common, model }, signal);
  compare(name, 'llama.cpp, merged f32', ofModel, ...references);
  const baseFile = await baseGguf(base, path.join(folder, name, 'base.gguf'));
  const files = { model: baseFile, adapter: await gguf('adapter', 'f32') };
  const ofAdapter = await answersOf(peers.llama, 'llama_cpp.py', { ...common, ...files }, signal);
  compare(name, 'llama.cpp, base and adapter', ofAdapter, ...references);
}

/** @param {any} options */
async function checkDemo({ client, folder, peers, signal }) {
  const file = path.join(ROOT_DIR, 'examples/dates/train.jsonl');
  const dataset = await client.uploadDataset({ file });
  const job = await client.waitForJob((await client.createJob({ ...DEMO_JOB, dataset: dataset.id })).id, { signal });
  if (job.adapter === null) throw new Error(`the job ${job.status}: ${job.error?.message}`);
  const manifest = await client.manifest(job.adapter);
  const ours = await ownAnswers(client, job.adapter, DEMO_PROMPTS);
  const peft = path.join(folder, 'demo', 'adapter');
  const merged = path.join(folder, 'demo', 'merged');
  await client.downloadAdapter(job.adapter, { folder: peft });
  await client.downloadAdapter(job.adapter, { folder: merged }, { weights: 'merged' });
  const base = path.join(ROOT_DIR, 'models', DEMO_MODEL_NAME);
  const common = { prompts: DEMO_PROMPTS, tokens: TOKENS };
  if (peers.transformers !== null) {
    const [withPeft, alone] = await manyAnswers(
      peers.transformers,
      [
        { ...common, model: base, adapter: peft },
        { ...common, model: merged },
      ],
      signal,
    );
    compare('demo', 'PEFT, adapter', withPeft, ['ours', ours, BFLOAT16]);
    compare('demo', 'transformers, merged', alone, ['ours', ours, BFLOAT16]);
  }
  if (peers.llama !== null) await probeDemo({ client, manifest, base, folder, python: peers.llama });
  if (peers.vllm === null) return;
  for (const [what, vllmJob] of [
    ['vLLM, base and adapter', { model: base, adapter: peft }],
    ['vLLM, merged', { model: merged }],
  ]) {
    const answers = await answersOf(
      peers.vllm,
      'vllm_cpu.py',
      { ...common, dtype: 'bfloat16', small: false, .../** @type {any} */ (vllmJob) },
      signal,
    );
    compare('demo', String(what), answers, ['ours', ours, BFLOAT16]);
  }
}

/** Asks llama.cpp's server for the probe of the adapter. @param {any} options */
async function probeDemo({ client, manifest, base, folder, python }) {
  const probed = async (/** @type {string} */ what, /** @type {Record<string, string>} */ files) => {
    const server = await llamaServer(python, files);
    try {
      const result = await probeServer(manifest, { url: `${server.url}/v1` });
      const matches = result.verdict === 'adapter';
      if (!matches) failures++;
      const [near, far] = [result.adapter_distance, result.base_distance].map(
        (value) => value?.toFixed(3) ?? 'unknown',
      );
      report(
        'demo',
        what,
        `lora probe: ${matches ? 'match' : `NO MATCH, ${result.verdict}`}, ${near} from the adapter, ${far} from the base`,
      );
    } finally {
      server.stop();
    }
  };
  for (const type of /** @type {const} */ (['f32', 'f16', 'bf16', 'q8_0'])) {
    const target = path.join(folder, 'demo', `merged-${type}.gguf`);
    await client.downloadAdapter(manifest.id, { file: target }, { weights: 'merged', format: 'gguf', type });
    await probed(`llama.cpp, merged ${type}`, { model: target });
  }
  const adapter = path.join(folder, 'demo', 'adapter.gguf');
  await client.downloadAdapter(manifest.id, { file: adapter }, { format: 'gguf' });
  const model = await baseGguf(base, path.join(folder, 'demo', 'base.gguf'));
  await probed('llama.cpp, base and adapter', { model, adapter });
}

/**
 * What the service itself answers.
 * @param {any} client @param {string} model @param {string[]} prompts @returns {Promise<Answer[]>}
 */
async function ownAnswers(client, model, prompts) {
  const answers = [];
  for (const prompt of prompts) {
    const request = { model, prompt, max_tokens: TOKENS, temperature: 0, logprobs: 5 };
    const { choices } = await client.complete(request);
    answers.push({ text: choices[0].text, steps: choices[0].logprobs.top_logprobs });
  }
  return answers;
}

/** @param {string} python @param {unknown[]} jobs @param {AbortSignal} signal @returns {Promise<[Answers, Answers]>} */
async function manyAnswers(python, jobs, signal) {
  const answers = await answersOf(python, 'transformers_peft.py', jobs, signal);
  return Array.isArray(answers) ? /** @type {[Answers, Answers]} */ (answers) : [answers, answers];
}

/**
 * Reports the greatest difference of the log-probabilities that both sides name, and counts it if it is above the limit.
 * @param {string} name @param {string} what @param {Answers} theirs
 * @param {[label: string, answers: Answers, tolerance: number][]} references
 */
function compare(name, what, theirs, ...references) {
  if ('error' in theirs) {
    failures++;
    return report(name, what, `FAILED: ${theirs.error}`);
  }
  const results = references.flatMap(([label, answers, tolerance]) => {
    if ('error' in answers) return [];
    const { difference, compared } = differenceOf(answers, theirs);
    const matches = compared >= 3 * answers.length && difference <= tolerance;
    if (!matches) failures++;
    return [`${matches ? '' : 'NO MATCH '}${label} ${difference.toExponential(1)}`];
  });
  report(name, what, results.join(', '));
}

/** @param {Answer[]} ours @param {Answer[]} theirs */
function differenceOf(ours, theirs) {
  let difference = 0;
  let compared = 0;
  for (const [index, { text, steps }] of ours.entries()) {
    for (const [step, tokens] of steps.entries()) {
      // After another token, the texts are not the same any more.
      if (step > 0 && theirs[index]?.text.slice(0, step) !== text.slice(0, step)) break;
      for (const [token, value] of Object.entries(tokens)) {
        const found = theirs[index]?.steps[step]?.[token];
        if (found === undefined) continue;
        compared++;
        difference = Math.max(difference, Math.abs(found - value));
      }
    }
  }
  return { difference, compared };
}

/** @param {string} name @param {string} what @param {string} result */
function report(name, what, result) {
  console.log(`${name.padEnd(26)} ${what.padEnd(28)} ${result}`);
}

/** The base model as GGUF, for an adapter. @param {string} folder @param {string} file */
async function baseGguf(folder, file) {
  const model = await readModelFolder(folder);
  const adapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  await writeGgufModel({
    model,
    adapter,
    path: file,
    type: 'F32',
    description: { name: model.name, baseModel: model.name },
  });
  await (await openGguf(file)).close();
  return file;
}

/** A server of llama.cpp. @param {string} python @param {Record<string, string>} files */
async function llamaServer(python, files) {
  const script = fileURLToPath(new URL('check-loaders/llama_cpp.py', import.meta.url));
  const server = spawn(python, [script, JSON.stringify({ ...files, serve: true })], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = new Promise((_, reject) => {
    server.once('exit', (code) => reject(new Error(`the server of llama.cpp ended with ${code}`)));
  });
  ended.catch(() => {});
  const ready = (async () => {
    for await (const line of createInterface({ input: server.stdout })) {
      if (line.startsWith('{"url"')) return /** @type {string} */ (JSON.parse(line).url);
    }
    throw new Error('the server of llama.cpp said no address');
  })();
  const url = /** @type {string} */ (await Promise.race([ready, ended]));
  return { url, stop: () => server.kill() };
}
