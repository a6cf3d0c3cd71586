// npm run s3-smoke: the images on a real engine with a bucket instead of a common folder. Two workers, each with a volume
// of its own; the one at work is taken away with its volume, and the other one goes on. It leaves nothing behind.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { createApiCalls, tarEntries } from './compose-smoke/api-calls.mjs';
import { docker } from './compose-smoke/docker.mjs';
import { s3Services } from './compose-smoke/s3-services.mjs';
import { cacheDir, ROOT_DIR } from './setup/locations.mjs';
import { findS3Server } from './setup/s3-server.mjs';
import { runAsCommand } from './setup.mjs';
import { availablePort } from './stack/ports.mjs';

const BUCKET = 'lorasmith-smoke';
const MODEL = 'tiny-llama';
const ROWS = Array.from({ length: 32 }, (_, i) => `{"text":"the number ${i} follows the number ${i - 1}"}\n`).join('');
const JOB = {
  base_model: MODEL,
  lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
  training: { epochs: 60, batch_size: 2, max_seq_length: 64, checkpoint_every_steps: 20 },
};
/** The job must be far from its end when its worker is taken away. */
const INTERRUPTED_AT_STEP = 60;

const stop = new AbortController();
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.once(signal, () => stop.abort());
const { signal } = stop;

/** @param {string} name @param {() => Promise<string>} work what it says is shown */
async function step(name, work) {
  const begin = Date.now();
  const said = await work();
  console.log(`ok  ${name} (${((Date.now() - begin) / 1000).toFixed(1)} s): ${said}`);
}

await runAsCommand(async () => {
  const { env } = process;
  const project = `lorasmith-s3-smoke-${process.pid}`;
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-smoke-'));
  const server = await findS3Server({ cache: cacheDir(env), env, progress: { update() {} } });
  const apiPort = await availablePort('127.0.0.1', 0, 'API_PORT');
  await writeFile(path.join(folder, 'env'), `API_PORT=${apiPort}\nLORASMITH_TAG=${project}\nS3_BUCKET=${BUCKET}\n`);
  await writeFile(path.join(folder, 's3.yml'), stringify(s3Services({ serverFile: server.file, bucket: BUCKET })));
  const files = ['docker-compose.yml', 'docker/compose.s3.yml', 'docker/compose.cpu.yml', path.join(folder, 's3.yml')];
  const base = ['compose', '--project-name', project, '--env-file', path.join(folder, 'env')];
  const options = { cwd: ROOT_DIR, env: { ...env, DOCKER_BUILDKIT: '1', COMPOSE_PARALLEL_LIMIT: '1' } };
  /** @param {string[]} args */
  const compose = (...args) =>
    docker([...base, ...files.flatMap((file) => ['-f', file]), ...args], { ...options, signal });
  const api = createApiCalls(`http://127.0.0.1:${apiPort}`, signal);
  try {
    await step('the images are built', async () => {
      await compose('build', 'api', 'registry', 'worker');
      return 'api, registry, worker-cpu';
    });
    await step('a base model is put into the bucket', async () => {
      await compose('up', '--detach', '--no-deps', 's3');
      const { writeTinyLlama } = await import(new URL('../test/tiny-llama.mjs', import.meta.url).href);
      await writeTinyLlama(path.join(folder, 'models', MODEL));
      const mount = `${path.join(folder, 'models')}:/models:ro`;
      const program = ['node', 'packages/model-store/dist/push-model-main.js', MODEL];
      const { stdout } = await compose('run', '--rm', '--no-deps', '--volume', mount, 'api', ...program);
      return stdout.split('\n')[0] ?? '';
    });
    await step('the stack comes up with two workers that share no volume', async () => {
      await compose('up', '--detach', '--wait', '--wait-timeout', '300', '--no-build', '--scale', 'worker=2');
      const { stdout } = await compose('ps', '--quiet', 'api', 'registry', 'worker');
      const { stdout: inspected } = await docker(['inspect', ...stdout.trim().split('\n')], { signal });
      /** @type {{ Mounts: { Name?: string, Source: string }[] }[]} */
      const containers = JSON.parse(inspected);
      const mounts = containers.flatMap(({ Mounts }) => Mounts.map(({ Name, Source }) => Name ?? Source));
      if (containers.length !== 4 || new Set(mounts).size !== mounts.length) throw new Error(mounts.join(', '));
      return `${containers.length} containers, ${mounts.length} volumes`;
    });
    let job = '';
    let adapter = '';
    let first = '';
    await step('the worker at work is taken away with its volume', async () => {
      const dataset = await api.uploadDataset(Buffer.from(ROWS));
      job = await api.createJob({ ...JOB, dataset });
      const { progress } = await api.waitForJob(job, (found) => found.progress?.step >= INTERRUPTED_AT_STEP);
      first = (await api.events(job)).find(({ type }) => type === 'job-started').data.worker;
      // A worker is called like its container.
      await docker(['rm', '--force', '--volumes', first], { signal });
      return `${first} at step ${progress.step} of ${progress.total_steps}`;
    });
    await step('the other one goes on from the checkpoint in the bucket', async () => {
      const done = await api.waitForJob(job, ({ status }) => status === 'succeeded');
      adapter = done.adapter;
      const events = await api.events(job);
      const last = events.findLastIndex(({ type }) => type === 'job-started');
      const { worker } = events[last].data;
      const begun = events.slice(last).find(({ type }) => type === 'step-finished').data.step;
      if (worker === first || begun <= JOB.training.checkpoint_every_steps)
        throw new Error(`${worker} at step ${begun}`);
      return `${worker} from step ${begun}`;
    });
    await step('both kinds of weights are downloaded', async () => {
      const peft = tarEntries(await api.download(`/adapters/${adapter}`));
      const merged = tarEntries(await api.download(`/adapters/${adapter}?weights=merged`));
      return `adapter ${peft.get('adapter_model.safetensors')} bytes, merged ${merged.get('model.safetensors')} bytes`;
    });
    return 0;
  } catch (error) {
    const { output } = await docker([...base, ...files.flatMap((file) => ['-f', file]), 'logs', '--tail', '20'], {
      ...options,
      expectFailure: true,
    });
    console.error(output);
    throw error;
  } finally {
    const quiet = { ...options, expectFailure: true };
    const all = files.flatMap((file) => ['-f', file]);
    await docker([...base, ...all, 'down', '--volumes', '--remove-orphans', '--timeout', '10'], quiet);
    const images = ['api', 'registry', 'worker-cpu'].map((name) => `lorasmith-${name}:${project}`);
    await docker(['image', 'rm', '--force', ...images], quiet);
    await rm(folder, { recursive: true, force: true });
  }
});
