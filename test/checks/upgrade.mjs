// npm run upgrade-check [-- --from COMMIT]: upgrades a stack from an earlier commit (default: the one before) to this one and back, service by
// service, on the same Redis and data, while jobs train and wait.
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { DEMO_MODEL_NAME } from '../../scripts/setup/demo-model.mjs';
import { cacheDir, ROOT_DIR } from '../../scripts/setup/locations.mjs';
import { git, runCommand } from '../../scripts/setup/run-command.mjs';
import { runAsCommand, setUp } from '../../scripts/setup.mjs';
import { interruption } from '../../scripts/stack/interruption.mjs';
import { createApiCalls, noStepTwice, startsOf } from './compose-smoke/api-calls.mjs';
import { RollingStack, SERVICES } from './upgrade/rolling-stack.mjs';

/** Long enough that it trains while three services are replaced. */
const STEPS = 40;
const JOB = {
  base_model: DEMO_MODEL_NAME,
  lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
  training: {
    ...{ epochs: 10, max_steps: STEPS, batch_size: 4, learning_rate: 1e-3, max_seq_length: 128 },
    checkpoint_every_steps: 10,
  },
};

await runAsCommand(async () => {
  const { values } = parseArgs({ options: { from: { type: 'string', default: 'HEAD~1' } } });
  const signal = interruption();
  const { modelsDir } = await setUp();
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-upgrade-'));
  try {
    const older = { name: 'older', folder: path.join(folder, 'older') };
    const commit = await git('rev-parse', '--verify', `${values.from}^{commit}`);
    await runCommand('git', ['clone', '--quiet', ROOT_DIR, older.folder]);
    await git('-C', older.folder, 'checkout', '--quiet', '--detach', commit);
    console.log(`set-up of ${commit.slice(0, 12)}, the older version`);
    const env = { ...process.env, MODELS_DIR: modelsDir };
    await runCommand(process.execPath, ['scripts/setup.mjs'], { cwd: older.folder, env });
    const newer = { name: 'newer', folder: ROOT_DIR };
    await check({ older, newer, folder, modelsDir, signal });
    return 0;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

/**
 * @param {{ older: { name: string, folder: string }, newer: { name: string, folder: string }, folder: string, modelsDir: string,
 *   signal: AbortSignal }} options
 */
async function check({ older, newer, folder, modelsDir, signal }) {
  const dataDir = path.join(folder, 'data');
  const stack = await RollingStack.start({ dataDir, modelsDir, cache: cacheDir(process.env), signal });
  const api = createApiCalls(stack.apiUrl, signal);
  /** @param {{ name: string, folder: string }} version @param {string} job that trains meanwhile */
  const replaceAll = async (version, job) => {
    const { progress } = await api.waitForJob(job, isTraining);
    for (const name of Object.keys(SERVICES)) await stack.run(name, version);
    console.log(`${job} was at step ${progress.step}; all services are ${version.name} now`);
  };
  try {
    for (const name of Object.keys(SERVICES)) await stack.run(name, older);
    const dataset = await api.uploadDataset(await readFile(path.join(ROOT_DIR, 'examples/dates/train.jsonl')));
    const send = () => api.createJob({ ...JOB, dataset });
    const adapterOf = async (/** @type {string} */ job) => {
      const { adapter } = await api.waitForJob(job, ({ status }) => status === 'succeeded');
      const file = await api.download(`/adapters/${adapter}/files/adapter_model.safetensors`);
      return createHash('sha256').update(file).digest('hex');
    };
    const allListed = async (/** @type {number} */ adapters) => {
      const { data } = await api.get('/adapters?limit=100');
      if (data.length !== adapters) throw new Error(`${data.length} adapters of ${adapters} are listed`);
    };
    const undisturbed = await send();
    const expected = await adapterOf(undisturbed);
    console.log(`undisturbed on older: adapter ${expected.slice(0, 16)}`);

    const upgraded = await send();
    const rolledBack = await send();
    await replaceAll(newer, upgraded);
    const found = [['upgraded', await adapterOf(upgraded)]];
    await allListed(2);
    const sentToNewer = await send();
    await replaceAll(older, rolledBack);
    found.push(['rolled back', await adapterOf(rolledBack)], ['sent to newer', await adapterOf(sentToNewer)]);

    const onBoth = [upgraded, rolledBack];
    for (const job of onBoth) {
      const events = await api.events(job);
      const workers = startsOf(events);
      if (workers.length !== 2 || workers[0] === workers[1]) {
        throw new Error(
          `${job} was trained by ${workers}: it ended before its worker was replaced, or started too often`,
        );
      }
      noStepTwice(events, STEPS);
    }
    await allListed(4);
    for (const [what, digest] of found) {
      console.log(`${what}: adapter ${digest?.slice(0, 16)}`);
      if (digest !== expected) throw new Error(`the adapter of the job that was ${what} is another one`);
    }
    const { data } = await api.get('/jobs?limit=100');
    if (data.length !== 4) throw new Error(`there are ${data.length} jobs of 4`);
    console.log('upgrade and rollback with jobs in flight: passed');
  } catch (error) {
    console.log(stack.logs());
    throw error;
  } finally {
    await stack.stop();
  }
}

/** @param {any} job */
function isTraining({ status, progress }) {
  if (status === 'succeeded') throw new Error('the job ended before its worker was replaced: it is too short');
  return status === 'running' && progress?.step >= 3;
}
