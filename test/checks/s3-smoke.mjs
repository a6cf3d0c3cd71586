// npm run s3-smoke: runs the images on the Docker engine as two hosts that share a bucket and a Redis, set up by the commands
// of docs/scaling.md, "Several hosts". Each host is a Compose project with a worker. The busy worker is removed with its
// volume, and the worker of the other host continues the job. Nothing remains afterwards.

import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { runAsCommand } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { availablePort } from '../../scripts/stack/ports.mjs';
import { installS3Server } from '../../scripts/stack/s3-server.mjs';
import { createApiCalls, tarEntries } from './compose-smoke/api-calls.mjs';
import {
  BUILD_ENVIRONMENT,
  CPU_FILES,
  checkDocker,
  docker,
  documentedCommands,
  neutralEnvironment,
  removeImages,
  runCommands,
} from './compose-smoke/docker.mjs';

/**
 * Simulates a host: a folder with the compose files and its own .env, and a Compose project with its own networks and volumes.
 *
 * @param {{ folder: string, project: string, settings: string, files?: Record<string, string>, signal: AbortSignal }} options
 *   `settings`: content of .env; `files`: contents of further files by name
 */
async function createComposeHost({ folder, project, settings, files = {}, signal }) {
  await mkdir(folder, { recursive: true });
  await cp(path.join(ROOT_DIR, 'docker-compose.yml'), path.join(folder, 'docker-compose.yml'));
  await cp(path.join(ROOT_DIR, 'docker'), path.join(folder, 'docker'), { recursive: true });
  await writeFile(path.join(folder, '.env'), `COMPOSE_PROJECT_NAME=${project}\n${settings}`);
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  const options = { cwd: folder, env: neutralEnvironment() };
  return {
    project,
    /** @param {string[]} args */
    compose: (...args) => docker(['compose', ...args], { ...options, signal }),
    /** Runs commands of the documentation in its folder. @param {string} commands */
    run: (commands) => runCommands(commands, { ...options, signal }),
    /** The last log lines of its services. */
    logs: async () => (await docker(['compose', 'logs', '--tail', '20'], { ...options, expectFailure: true })).output,
    remove: () =>
      docker(['compose', 'down', '--volumes', '--remove-orphans', '--timeout', '10'], {
        ...options,
        expectFailure: true,
      }),
  };
}

// Invented credentials, for a server that only this test can reach.
const ACCESS_KEY = 'smoke-access';
const SECRET_KEY = 'smoke-secret';
const BUCKET = 'lorasmith-smoke';
const MODEL = 'tiny-llama';
const ROWS = Array.from({ length: 32 }, (_, i) => `{"text":"the number ${i} follows the number ${i - 1}"}\n`).join('');
const JOB = {
  base_model: MODEL,
  lora: { r: 4, alpha: 8, target_modules: ['q_proj', 'v_proj'] },
  training: { epochs: 60, batch_size: 2, max_seq_length: 64, checkpoint_every_steps: 20 },
};
const PASSWORD = 'a-password-of-the-smoke-of-the-bucket';
/** Long enough that the job is still running when its worker is removed. */
const INTERRUPTED_AT_STEP = 60;

const signal = interruption();

/** @param {string} name @param {() => Promise<string>} work its result is printed */
async function step(name, work) {
  const begin = Date.now();
  try {
    const result = await work();
    console.log(`ok  ${name} (${((Date.now() - begin) / 1000).toFixed(1)} s): ${result}`);
  } catch (error) {
    if (!signal.aborted) console.log(`not ok  ${name}\n${error instanceof Error ? error.message : error}`);
    throw error;
  }
}

await runAsCommand(async () => {
  const { env } = process;
  await checkDocker();
  const tag = `lorasmith-s3-smoke-${process.pid}`;
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-s3-smoke-'));
  const serverFile = await installS3Server(env);
  const address = hostAddress();
  const port = async (/** @type {string} */ name, at = address) => String(await availablePort(at, 0, name));
  const [apiPort, redisPort, s3Port] = [
    await port('API_PORT', '127.0.0.1'),
    await port('REDIS_PORT'),
    await port('S3_PORT'),
  ];
  const s3 = s3Service({ serverFile, bucket: BUCKET, address, port: Number(s3Port) });
  const common = `LORASMITH_TAG=${tag}\nJOB_LOCK_MS=15000\n${s3.settings}`;
  /** The documented commands after a text, adapted to these two hosts. @param {string} after */
  const documented = async (after) =>
    (await documentedCommands(after, 'docs/scaling.md'))
      .replaceAll('10.0.0.1', address)
      .replace(':6380', `:${redisPort}`)
      .replace(/REDIS_PASSWORD=…/, `REDIS_PASSWORD=${PASSWORD}`)
      .replace(/SERVICE_SECRET=…/, `SERVICE_SECRET=${PASSWORD}`)
      .replace('PASSWORD@', `${PASSWORD}@`)
      .replace(/^COMPOSE_FILE=.*$/m, '$&:docker/compose.cpu.yml')
      .replace('--build', '--no-build')
      .replace(' NAME', ` ${MODEL}`);

  const firstSettings = (await documented('On the first host, here')).replace(/^COMPOSE_FILE=.*$/m, '$&:s3.yml');
  const first = await createComposeHost({
    folder: path.join(folder, 'first'),
    project: `${tag}-first`,
    settings: `${common}API_PORT=${apiPort}\nREDIS_PORT=${redisPort}\n${firstSettings}`,
    files: { 's3.yml': JSON.stringify(s3.composeFile) },
    signal,
  });
  const second = await createComposeHost({
    folder: path.join(folder, 'second'),
    project: `${tag}-second`,
    settings: `${common}${await documented('On each further host')}`,
    signal,
  });
  const hosts = [first, second];
  const api = createApiCalls(`http://127.0.0.1:${apiPort}`, signal);
  try {
    await step('the images are built', async () => {
      const files = CPU_FILES.flatMap((file) => ['-f', file]);
      await docker(['compose', '--project-name', tag, ...files, 'build', 'api', 'registry', 'worker'], {
        cwd: ROOT_DIR,
        env: { ...env, ...BUILD_ENVIRONMENT, LORASMITH_TAG: tag },
        signal,
      });
      return 'api, registry, worker-cpu';
    });
    await step('the first host starts, and a base model is pushed to the bucket', async () => {
      await first.compose('up', '--detach', '--no-deps', 's3');
      const { writeTinyLlama } = await import(new URL('../tiny-llama.mjs', import.meta.url).href);
      await writeTinyLlama(path.join(folder, 'first/models', MODEL));
      const output = await first.run(await documented('Then, with `DNS:`'));
      return output.trim().split('\n').at(-1) ?? '';
    });
    /** The host of each worker, by the worker's name, which is that of its container. @type {Map<string, typeof first>} */
    const workers = new Map();
    await step('the worker of a second host connects with TLS and a password', async () => {
      await cp(path.join(folder, 'first/redis-tls/redis.crt'), path.join(folder, 'second/redis-tls/redis.crt'));
      await second.run(await documented('Start the worker alone'));
      for (const host of hosts) {
        const { stdout } = await host.compose('ps', '--format', 'json', 'worker');
        workers.set(JSON.parse(stdout).ID.slice(0, 12), host);
      }
      const running = (await second.compose('ps', '--services')).stdout.trim().split('\n');
      if (running.join() !== 'worker') throw new Error(`the second host runs ${running.join(', ')}, not only a worker`);
      return [...workers.keys()].join(', ');
    });
    let job = '';
    let adapter = '';
    let removed = '';
    await step('the busy worker is removed with its volume', async () => {
      const dataset = await api.uploadDataset(Buffer.from(ROWS));
      job = await api.createJob({ ...JOB, dataset });
      const { progress } = await api.waitForJob(job, (found) => found.progress?.step >= INTERRUPTED_AT_STEP);
      removed = (await api.events(job)).find(({ type }) => type === 'job-started').data.worker;
      await docker(['rm', '--force', removed], { signal });
      await docker(['volume', 'rm', `${workers.get(removed)?.project}_worker`], { signal });
      return `${removed} at step ${progress.step} of ${progress.total_steps}`;
    });
    await step("the other host's worker resumes from the checkpoint in the bucket", async () => {
      const done = await api.waitForJob(job, ({ status }) => status === 'succeeded');
      adapter = done.adapter;
      const events = await api.events(job);
      const last = events.findLastIndex(({ type }) => type === 'job-started');
      const { worker } = events[last].data;
      const firstStep = events.slice(last).find(({ type }) => type === 'step-finished').data.step;
      if (worker === removed || !workers.has(worker) || firstStep <= JOB.training.checkpoint_every_steps)
        throw new Error(`${worker} at step ${firstStep}`);
      return `${worker} from step ${firstStep}`;
    });
    await step('both kinds of weights are downloaded', async () => {
      const peft = tarEntries(await api.download(`/adapters/${adapter}`));
      const merged = tarEntries(await api.download(`/adapters/${adapter}?weights=merged`));
      return `adapter ${peft.get('adapter_model.safetensors')} bytes, merged ${merged.get('model.safetensors')} bytes`;
    });
    return 0;
  } catch {
    if (signal.aborted) console.log('\nInterrupted.');
    else for (const host of hosts) console.log(await host.logs());
    return 1;
  } finally {
    for (const host of [second, first]) await host.remove();
    await removeImages(tag);
    await rm(folder, { recursive: true, force: true });
  }
});

/** An address of this machine that every container can reach: that of the engine's bridge if it has its usual name. */
function hostAddress() {
  const { docker0 = [], ...others } = networkInterfaces();
  const all = [docker0, ...Object.values(others)].flatMap((addresses) => addresses ?? []);
  const found = all.find(({ family, internal }) => family === 'IPv4' && !internal);
  if (found === undefined) throw new Error('this machine has no IPv4 address other than the loopback');
  return found.address;
}

/**
 * An S3 server in a container, at an address of the engine's host, in place of a real bucket.
 *
 * @param {{ serverFile: string, bucket: string, address: string, port: number }} options `serverFile`: the server's program,
 *   which is statically linked
 * @returns {{ composeFile: object, settings: string }} `settings`: the lines of .env by which every host finds it
 */
function s3Service({ serverFile, bucket, address, port }) {
  const start = `mkdir -p /tmp/objects/${bucket} /tmp/metadata && exec /versitygw --quiet --port :7070 posix --sidecar /tmp/metadata /tmp/objects`;
  const s3 = {
    image: 'debian:bookworm-slim',
    command: ['sh', '-c', start],
    environment: { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY },
    volumes: [`${serverFile}:/versitygw:ro`],
    ports: [`${address}:${port}:7070`],
    networks: ['outside'],
  };
  const settings = `S3_BUCKET=${bucket}
S3_ENDPOINT=http://${address}:${port}
S3_FORCE_PATH_STYLE=true
AWS_ACCESS_KEY_ID=${ACCESS_KEY}
AWS_SECRET_ACCESS_KEY=${SECRET_KEY}
`;
  return { composeFile: { services: { s3 } }, settings };
}
