// npm run compose-smoke: runs the complete product in containers on the local Docker engine without a GPU, from building the
// images to downloading a trained adapter. Needs Docker with Compose 2.24, Node, and Python with pip (for the model).
import { createHash } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DEMO_MODEL_NAME, installDemoModel } from '../../scripts/setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { createApiCalls, tarEntries } from './compose-smoke/api-calls.mjs';
import { checkDocker, createComposeStack, docker } from './compose-smoke/docker.mjs';
import { checkImage, checkRebuild } from './compose-smoke/image-checks.mjs';
import {
  checkBackup,
  checkContainers,
  checkEmulatedGpu,
  checkGpuRefusal,
  checkHandOver,
  checkMetricsKey,
  checkModelPull,
  HUB_SETTINGS,
} from './compose-smoke/stack-checks.mjs';

const JOB = {
  base_model: DEMO_MODEL_NAME,
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: {
    epochs: 3,
    max_steps: 120,
    batch_size: 8,
    learning_rate: 1e-3,
    max_seq_length: 128,
    checkpoint_every_steps: 10,
  },
};

try {
  await checkDocker();
} catch (error) {
  console.error(describeFailure(error));
  process.exit(1);
}
const signal = interruption();
const modelsDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-models-'));
// The user of the containers is not the current one, and the puller writes there.
await chmod(modelsDir, 0o777);
const workDir = await mkdtemp(path.join(tmpdir(), 'lorasmith-smoke-'));
const stack = await createComposeStack({
  apiPort: await availablePort('127.0.0.1', 0, 'API_PORT'),
  modelsDir,
  settings: HUB_SETTINGS,
  signal,
});
const api = createApiCalls(stack.apiUrl, signal);
/** @type {('cuda' | 'tensorflow')[]} */
const gpuImages = process.argv.includes('--without-gpu-image') ? [] : ['cuda', 'tensorflow'];

let number = 0;
/** @param {string} name @param {() => Promise<string | undefined>} work returns a line for the report */
async function step(name, work) {
  number += 1;
  const startedAt = Date.now();
  try {
    const result = await work();
    console.log(
      `ok ${number} - ${name} (${((Date.now() - startedAt) / 1000).toFixed(0)} s)${result ? `\n    ${result}` : ''}`,
    );
  } catch (error) {
    console.log(`not ok ${number} - ${name}\n${error instanceof Error ? error.message : error}`);
    throw error;
  }
}

try {
  await smoke();
  console.log(`\n${number} passed, 0 failed`);
} catch {
  if (signal.aborted) console.log('\nInterrupted.');
  else console.log(`\n${await stack.logs()}\n${number - 1} passed, 1 failed`);
  process.exitCode = 1;
} finally {
  await stack.remove();
  await Promise.all([modelsDir, workDir].map((folder) => rm(folder, { recursive: true, force: true })));
}

async function smoke() {
  await step('docker and compose are available, the compose files are valid', async () => {
    await stack.compose(['config', '--quiet'], { gpu: 'cuda' });
    await stack.compose(['config', '--quiet'], { gpu: 'tensorflow' });
    await stack.compose(['config', '--quiet']);
    const { stdout } = await docker(['version', '--format', 'engine {{.Server.Version}}, client {{.Client.Version}}']);
    return stdout.trim();
  });
  /** @type {{ service: string, image: string, engine: import('./compose-smoke/image-checks.mjs').EngineOfImage }[]} */
  const images = [
    { service: 'api', image: 'api', engine: 'none' },
    { service: 'registry', image: 'registry', engine: 'none' },
    { service: 'worker', image: 'worker-cpu', engine: 'cpu' },
    ...gpuImages.map((engine) => ({
      service: 'worker',
      image: engine === 'cuda' ? 'worker-gpu' : 'worker-gpu-tensorflow',
      engine,
    })),
  ];
  for (const { service, image, engine } of images) {
    await step(`the image ${image} is built and has the right contents`, async () => {
      const gpu = gpuImages.find((name) => name === engine);
      await stack.compose(['build', service], { gpu });
      return await checkImage(stack.image(image), { engine });
    });
  }
  await step('a change of a source file builds only our own code again', () =>
    checkRebuild(
      images.map(({ image }) => image),
      signal,
    ),
  );

  await step('the demo model is in the models folder', () => {
    const { env } = process;
    return installDemoModel({ cache: cacheDir(env), env, modelsDir, progress: { update() {} } });
  });
  await step('a missing models folder is refused', async () => {
    const env = { MODELS_DIR: path.join(modelsDir, 'nowhere') };
    const { code, output } = await stack.compose(['up', '--no-build', '--no-start'], { env, expectFailure: true });
    if (code === 0 || !output.includes('nowhere')) throw new Error(`it was accepted: ${output}`);
    return output.trim().split('\n').at(-1);
  });
  await step('the stack starts, is healthy, and serves its web page', async () => {
    await stack.up();
    const page = await api.openPage();
    const services = (await stack.containers()).map(({ service }) => service).sort();
    return `${services.join(', ')}; ${page}`;
  });
  await step('no container runs as root, only the api has an open port, only the puller writes models', () =>
    checkContainers(stack),
  );

  let dataset = '';
  let job = '';
  let adapter = '';
  await step('a dataset is uploaded and a job is created through the published port', async () => {
    dataset = await api.uploadDataset(await readFile(path.join(ROOT_DIR, 'examples/dates/train.jsonl')));
    job = await api.createJob({ ...JOB, dataset, name: 'smoke' });
    return `${dataset}, ${job}`;
  });
  for (const service of ['api', 'registry', 'redis', 'worker']) {
    await step(`${service} is restarted during the job, and the job continues`, async () => {
      const before = await api.waitForJob(job, ({ status, progress }) => status === 'running' && progress?.step >= 3);
      await stack.compose(['restart', service]);
      await stack.healthy();
      const reached = before.progress.step;
      const after = await api.waitForJob(
        job,
        ({ status, progress }) => status === 'succeeded' || progress?.step > reached,
      );
      if (after.status === 'succeeded')
        throw new Error('the job ended before the restart: it is too short for this test');
      return `step ${reached} before, ${after.progress.step} after`;
    });
  }
  await step('the job succeeds', async () => {
    const done = await api.waitForJob(job, ({ status }) => status === 'succeeded');
    if (done.progress.step !== JOB.training.max_steps) throw new Error(`it ended at step ${done.progress.step}`);
    adapter = done.adapter;
    const events = await api.events(job);
    const starts = events.filter(({ type }) => type === 'job-started').length;
    const losses = events.filter(({ type }) => type === 'step-finished').map(({ data }) => data.loss);
    if (starts < 2) throw new Error('the restart of the worker did not release the job');
    return `${adapter}; ${starts} starts, loss ${losses[0].toFixed(3)} → ${losses.at(-1).toFixed(3)}`;
  });
  await step('both kinds of weights are downloaded', async () => {
    const peft = tarEntries(await api.download(`/adapters/${adapter}`));
    const merged = tarEntries(await api.download(`/adapters/${adapter}?weights=merged`));
    for (const [entries, names] of /** @type {const} */ ([
      [peft, ['adapter_config.json', 'adapter_model.safetensors']],
      [merged, ['config.json', 'model.safetensors', 'tokenizer.json']],
    ])) {
      const missing = names.filter((name) => !entries.get(name));
      if (missing.length > 0)
        throw new Error(`${missing.join(', ')} not in the download: ${[...entries.keys()].join(', ')}`);
    }
    return `adapter ${peft.get('adapter_model.safetensors')} bytes, merged ${merged.get('model.safetensors')} bytes`;
  });
  let pulled = '';
  await step('a gated base model is pulled from a hub, and a job trains on it', async () => {
    const { name, report } = await checkModelPull(stack, api);
    pulled = name;
    return `${report}; trained by ${await trainedBy(5, pulled)}`;
  });
  const lists = async () =>
    JSON.stringify([await api.get('/jobs'), await api.get('/datasets'), await api.get('/adapters')]);
  await step('after down and up, jobs, datasets and adapters are unchanged', async () => {
    const before = await lists();
    await stack.compose(['down']);
    await stack.up();
    const after = await lists();
    if (after !== before) throw new Error(`before: ${before}\nafter: ${after}`);
    if (![job, dataset, adapter].every((id) => after.includes(id))) throw new Error(`something is missing: ${after}`);
    return 'identical, byte for byte';
  });
  await step('a backup is made, the volumes are removed, and the backup is restored', () =>
    checkBackup(stack, {
      folder: workDir,
      signal,
      async everything() {
        const adapterSha256 = createHash('sha256')
          .update(await api.download(`/adapters/${adapter}`))
          .digest('hex');
        return JSON.stringify([await lists(), await api.events(job), adapterSha256]);
      },
    }),
  );
  await step('two workers take one job each from the queue', async () => {
    await stack.up('--scale', 'worker=2');
    // On two base models, since a worker takes further jobs on the base that it has loaded.
    const workers = await Promise.all([trainedBy(20), trainedBy(20, pulled)]);
    if (workers[0] === workers[1]) throw new Error(`both jobs were taken by ${workers[0]}`);
    return workers.join(', ');
  });
  await step('the worker that trains is stopped, and the other one continues its job without losing a step', () =>
    checkHandOver(stack, api, { ...JOB, training: { ...JOB.training, max_steps: 60 }, dataset }),
  );
  for (const gpu of gpuImages) {
    await step(`the GPU worker (${gpu}) refuses a host without a GPU, and says why`, () =>
      checkGpuRefusal(stack, gpu, () => trainedBy(5)),
    );
  }
  if (gpuImages.length > 0) {
    await step('the GPU worker tests its engine on an emulated card, and trains on it', () =>
      checkEmulatedGpu(stack, { signal, train: () => trainedBy(5, pulled) }),
    );
  }
  await step('metrics need no key until there are API keys', () => checkMetricsKey(stack, { folder: workDir, signal }));

  /** Trains a short job. @param {number} steps @returns {Promise<string>} the worker that trained it */
  async function trainedBy(steps, model = DEMO_MODEL_NAME) {
    const training = { ...JOB.training, max_steps: steps };
    const id = await api.createJob({ ...JOB, base_model: model, training, dataset });
    await api.waitForJob(id, ({ status }) => status === 'succeeded');
    return (await api.events(id)).find(({ type }) => type === 'job-started').data.worker;
  }
}
