import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { noStepTwice, startsOf } from './api-calls.mjs';
import { BUILD_ENVIRONMENT, docker, documentedCommands, runCommands } from './docker.mjs';

/** Services that connect to the outside: the api is published and calls webhooks, the puller asks the hub. */
const REACH_OUT = ['api', 'puller'];

/**
 * Checks every running container: none runs as root; only the api has an open port, on the loopback interface; only the puller
 * can write to the models folder, and only it has the token of the hub.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @returns {Promise<string>} a line for the report
 * @throws {Error} naming the container and its fault
 */
export async function checkContainers(stack) {
  const containers = await stack.containers();
  const users = [];
  for (const { service, id } of containers) {
    const [details] = JSON.parse((await docker(['inspect', id])).stdout);
    const { Config: config, HostConfig: host, Mounts: mounts, NetworkSettings: network } = details;
    const uids = (await docker(['top', id, '-eo', 'pid,uid'])).stdout
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[1] ?? '')
      .filter(Boolean);
    const must = (/** @type {unknown} */ condition, /** @type {string} */ fault) => {
      if (!condition) throw new Error(`the container of ${service} ${fault}`);
    };
    must(uids.length > 0 && !uids.includes('0'), `runs as user ${uids.join(', ')}`);
    must(host.ReadonlyRootfs, 'can write to its root');
    must(host.CapDrop?.includes('ALL') && !host.CapAdd?.length, 'has capabilities');
    must(
      host.SecurityOpt?.some((/** @type {string} */ option) => option.startsWith('no-new-privileges')),
      'may gain privileges',
    );
    must(host.LogConfig.Config['max-size'], 'has a log without a size limit');
    must(host.RestartPolicy.Name === 'unless-stopped', 'is not restarted');
    const open = Object.values(network.Ports ?? {}).flatMap((bindings) => bindings ?? []);
    if (service === 'api') {
      must(open.length > 0 && open.every(({ HostIp }) => HostIp === '127.0.0.1'), `is open on ${JSON.stringify(open)}`);
    } else {
      must(open.length === 0, `has an open port: ${JSON.stringify(open)}`);
    }
    const isOutside = Object.keys(network.Networks).some((name) => !name.endsWith('_inside'));
    must(isOutside === REACH_OUT.includes(service), `${isOutside ? 'can' : 'cannot'} reach the outside`);
    const isPuller = service === 'puller';
    const models = mounts.find((/** @type {{ Destination: string }} */ { Destination }) => Destination === '/models');
    must((models?.RW ?? false) === isPuller, `${isPuller ? 'cannot' : 'can'} write to the models folder`);
    const hasToken = config.Env.some((/** @type {string} */ line) => /^HF_TOKEN=./.test(line));
    must(hasToken === isPuller, `${hasToken ? 'has' : 'lacks'} the token of the hub`);
    users.push(`${service} ${[...new Set(uids)].join(',')}`);
  }
  return `users: ${users.join(', ')}; one open port, the api's on 127.0.0.1; roots read-only, no capabilities; models and token of the puller alone`;
}

/**
 * Backs up the stack, removes its volumes and restores them, with the commands of docs/operations.md.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {{ folder: string, everything: () => Promise<string>, signal: AbortSignal }} options `folder`: an empty folder
 *   for the backup; `everything`: the data that must be unchanged after it
 * @returns {Promise<string>} a line for the report
 * @throws {Error} when a command fails or data differ
 */
export async function checkBackup(stack, { folder, everything, signal }) {
  const options = { cwd: folder, env: stack.shellEnvironment, signal };
  const run = async (/** @type {string} */ after) => await runCommands(await documentedCommands(after), options);
  const before = await everything();
  await run('**While it runs, with Compose:**');
  await run('**Read it**');
  await stack.compose(['down', '--volumes']);
  await run('**Restore**');
  const after = await everything();
  if (after !== before) throw new Error(`before: ${before}\nafter: ${after}`);
  const sizes = await Promise.all(
    ['redis.rdb', 'data.tar'].map(
      async (name) => `${name} ${(await stat(path.join(folder, 'backup', name))).size} bytes`,
    ),
  );
  return `identical, byte for byte, restored from ${sizes.join(' and ')}`;
}

/**
 * Checks the access of the Prometheus of docker/compose.monitoring.yml to the metrics: with its empty key file while there
 * are no API keys, and with the key that the commands of docs/operations.md create.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {{ folder: string, signal: AbortSignal }} options
 * @returns {Promise<string>} a line for the report
 */
export async function checkMetricsKey(stack, { folder, signal }) {
  const ask = async (/** @type {string} */ key) => {
    const response = await fetch(`${stack.apiUrl}/metrics`, { headers: { authorization: `Bearer ${key}` }, signal });
    await response.text();
    return response.status;
  };
  const open = await ask('');
  const commands = await documentedCommands("Once there are API keys, the api's figures");
  await runCommands(commands, { cwd: folder, env: stack.shellEnvironment, signal });
  const key = (await readFile(path.join(folder, 'metrics-key'), 'utf8')).trim();
  const answers = [open, await ask(key), await ask('')];
  if (answers.join() !== '200,200,401') throw new Error(`the answers were ${answers.join(', ')}`);
  return '200 while there are no API keys; then 200 with a key and 401 without one';
}

/**
 * Stops the container of the worker that trains, as `docker stop` and a drained node do, and checks that the other worker continues its job:
 * within the time that Compose leaves it, no step twice, the same bytes of the adapter as without a stop.
 *
 * @param {import('./docker.mjs').ComposeStack} stack with two workers
 * @param {ReturnType<typeof import('./api-calls.mjs').createApiCalls>} api
 * @param {Record<string, unknown> & { training: { max_steps: number } }} job
 * @returns {Promise<string>} a line for the report
 */
export async function checkHandOver(stack, api, job) {
  const steps = job.training.max_steps;
  const id = await api.createJob(job);
  const { progress } = await api.waitForJob(id, ({ status, progress }) => status === 'running' && progress?.step >= 3);
  const [name = ''] = startsOf(await api.events(id));
  const container = (await stack.containers()).find((one) => one.id.startsWith(name) || name.startsWith(one.id));
  if (!container) throw new Error(`no container is named as the worker ${name} is`);
  const { stdout: grace } = await docker(['inspect', '--format', '{{.Config.StopTimeout}}', container.id]);
  const startedAt = performance.now();
  // Without a time of its own, it leaves the container what Compose gave it.
  await docker(['stop', container.id]);
  const seconds = (performance.now() - startedAt) / 1000;
  const { stdout: exit } = await docker(['inspect', '--format', '{{.State.ExitCode}}', container.id]);
  if (exit.trim() !== '0') throw new Error(`the worker ended with ${exit.trim()} after ${seconds.toFixed(0)} s`);
  const stopped = await api.waitForJob(id, ({ status }) => status === 'succeeded');
  const events = await api.events(id);
  const workers = startsOf(events);
  if (workers.length !== 2 || workers[0] === workers[1]) throw new Error(`the job was started by ${workers}`);
  noStepTwice(events, steps);
  const again = await api.waitForJob(await api.createJob(job), ({ status }) => status === 'succeeded');
  const weights = (/** @type {string} */ adapter) =>
    api.download(`/adapters/${adapter}/files/adapter_model.safetensors`);
  const [one, other] = await Promise.all([stopped, again].map(({ adapter }) => weights(adapter)));
  if (!one || !other?.equals(one)) throw new Error('the adapter is another one than without a stop');
  await docker(['start', container.id]);
  await stack.healthy();
  const at = `stopped after step ${progress.step} in ${seconds.toFixed(0)} of ${grace.trim()} s`;
  return `${at}, ${workers.join(' then ')}: no step of ${steps} twice, the same ${one.length} bytes as without a stop`;
}

const HOST = 'smoke-hub';
const PORT = 8000;
const REPO = 'org/tiny-llama';
/** Invented, for the hub of this test alone. */
const TOKEN = 'hf_aTokenOfTheSmokeTest';
const START_TIMEOUT_MS = 30_000;

/** The lines of .env by which the stack uses the hub of this test. */
export const HUB_SETTINGS = { HF_ENDPOINT: `http://${HOST}:${PORT}`, HF_TOKEN: TOKEN };

/**
 * Pulls a gated base model into the models folder, from a hub in a container on the network that the puller shares with the
 * outside.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {ReturnType<typeof import('./api-calls.mjs').createApiCalls>} api
 * @returns {Promise<{ name: string, report: string }>} `name`: of the base model
 * @throws {Error} when the pull fails, or the api does not list the model as one from this hub
 */
export async function checkModelPull(stack, api) {
  const container = `${stack.project}-hub`;
  const options = ['--detach', '--name', container, '--volume', `${ROOT_DIR}:/lorasmith:ro`, ...HARDENED];
  const network = ['--network', `${stack.project}_outside`, '--hostname', HOST, '--network-alias', HOST];
  const program = ['node', '/lorasmith/test/checks/compose-smoke/local-hub.mjs'];
  const hub = [HOST, String(PORT), REPO, TOKEN];
  await docker(['run', ...options, ...network, stack.image('api'), ...program, ...hub]);
  try {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const { output } = await docker(['logs', container]);
      if (output.includes('The hub is at')) break;
      if (Date.now() > deadline) throw new Error(`the hub did not start:\n${output}`);
      await sleep(200);
    }
    const model = await api.pullModel(REPO);
    if (model?.problem !== null || model.origin?.repo !== REPO)
      throw new Error(`the api lists the pulled model as ${JSON.stringify(model)}`);
    return { name: model.name, report: `${model.name} from ${REPO} at ${model.origin.commit}` };
  } finally {
    await docker(['rm', '--force', container], { expectFailure: true });
  }
}

const HEALTHY_TIMEOUT_MS = 300_000;

/** The restrictions of a container in the compose file. */
const HARDENED = ['--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL'];

/**
 * Runs a worker's image in the stack, without a GPU of the host, while a job is trained. The stack's own worker is stopped.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {{ image: string, name: string, env?: Record<string, string> }} options `name`: of the container and the worker
 * @param {() => Promise<string>} train trains a job and resolves with the name of its worker
 * @returns {Promise<string>} the container's log
 * @throws {Error} when it does not become healthy, or another worker trained the job
 */
async function trainWithImage(stack, { image, name, env = {} }, train) {
  const settings = Object.entries({ REDIS_URL: 'redis://redis:6379', ...env }).flatMap(([variable, value]) => [
    '--env',
    `${variable}=${value}`,
  ]);
  const volumes = ['--volume', `${stack.project}_data:/data`, '--volume', `${stack.modelsDir}:/models:ro`];
  const network = ['--network', `${stack.project}_inside`, '--hostname', name];
  await stack.compose(['stop', 'worker']);
  await docker(['run', '--detach', '--name', name, ...network, ...HARDENED, ...settings, ...volumes, image]);
  try {
    const deadline = Date.now() + HEALTHY_TIMEOUT_MS;
    for (;;) {
      const { stdout } = await docker(['inspect', '--format', '{{.State.Health.Status}}', name]);
      if (stdout.trim() === 'healthy') break;
      if (stdout.trim() === 'unhealthy' || Date.now() > deadline) {
        throw new Error(`${name} is ${stdout.trim()}:\n${(await docker(['logs', name])).output}`);
      }
      await sleep(1_000);
    }
    const trainedBy = await train();
    const { output } = await docker(['logs', name]);
    if (trainedBy !== name) throw new Error(`the job was trained by ${trainedBy}:\n${output}`);
    return output;
  } finally {
    await docker(['rm', '--force', name], { expectFailure: true });
  }
}

const EXIT_NO_GPU = 69;

/**
 * Checks an image of the GPU worker on a host without a GPU: it names what is missing, and trains with DEVICE=cpu.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {'cuda' | 'tensorflow'} gpu the engine that distinguishes the image
 * @param {() => Promise<string>} train trains a job and resolves with the name of its worker
 * @returns {Promise<string>} lines for the report
 */
export async function checkGpuRefusal(stack, gpu, train) {
  const image = stack.image(gpu === 'cuda' ? 'worker-gpu' : 'worker-gpu-tensorflow');
  const alone = ['--network', 'none', '--tmpfs', '/data:uid=1000,gid=1000'];
  const { code, output } = await docker(['run', '--rm', ...alone, ...HARDENED, image], { expectFailure: true });
  if (code !== EXIT_NO_GPU || !output.includes('driver:')) {
    throw new Error(`without a GPU the worker exited with ${code}, not ${EXIT_NO_GPU}:\n${output}`);
  }
  if (output.includes('library:')) throw new Error(`the image lacks a CUDA library:\n${output}`);

  await trainWithImage(stack, { image, name: `${stack.project}-gpu-image-on-cpu`, env: { DEVICE: 'cpu' } }, train);

  const composed = await stack.compose(['run', '--rm', '--no-deps', 'worker'], { gpu, expectFailure: true });
  if (composed.code === 0) throw new Error('docker compose started a GPU worker on a host without a GPU');
  const indent = (/** @type {string} */ text) =>
    text
      .trim()
      .split('\n')
      .map((line) => `      ${line}`)
      .join('\n');
  return `exit code ${code}; with DEVICE=cpu it trains a job\n${indent(output)}\n      docker compose, which passes on the GPU: ${composed.output.trim().split('\n').at(-1)}`;
}

const TARGET = 'worker-gpu-emulated';

/**
 * Checks that the GPU worker's image finds everything that it needs on a card: in a copy of it, emulations take the place of the
 * driver's library, where the container toolkit adds that, and of cuBLASLt.
 *
 * @param {import('./docker.mjs').ComposeStack} stack
 * @param {{ signal: AbortSignal, train: () => Promise<string> }} options `train`: trains a job and resolves with the name of
 *   its worker
 * @returns {Promise<string>} lines for the report
 */
export async function checkEmulatedGpu(stack, { signal, train }) {
  const image = stack.image(TARGET);
  const args = ['build', '--quiet', '--file', 'docker/Dockerfile', '--target', TARGET, '--tag', image, '.'];
  await docker(args, { cwd: ROOT_DIR, env: { ...process.env, ...BUILD_ENVIRONMENT }, signal });
  // The self-test at full size takes too long on an emulated card.
  const env = { GPU_SELF_TEST: 'small' };
  const log = await trainWithImage(stack, { image, name: `${stack.project}-emulated-gpu`, env }, train);
  const aboutTheEngine = log.split('\n').filter((line) => /self-test on this GPU|training on the GPU/.test(line));
  if (!aboutTheEngine.some((line) => line.includes('cuda'))) throw new Error(`it did not use the CUDA engine:\n${log}`);
  return aboutTheEngine.map((line) => line.slice(0, 300)).join('\n    ');
}
