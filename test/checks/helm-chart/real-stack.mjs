import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ROOT_DIR } from '../../../scripts/setup/locations.mjs';
import { runCommand } from '../../../scripts/setup/run-command.mjs';
import { SERVICE_PROGRAMS } from '../../../scripts/stack/service-programs.mjs';
import { startStack } from '../../../scripts/stack/start-stack.mjs';
import { writeTinyLlama } from '../../tiny-llama.mjs';

/** @typedef {{ type: string, metadata: Record<string, string> }} Trigger of a ScaledObject */

/**
 * Asks the metrics of a real api, Redis and registry, without any worker, as KEDA does for the triggers of a chart: without work, with a
 * job that waits, and once the api asks for keys.
 *
 * @param {object} options
 * @param {string} options.program of test/checks/helm-chart/keda
 * @param {Map<string, Trigger>} options.triggers by class of workers
 * @param {Record<string, string>} options.classes the variables of the api that name the classes
 * @param {{ fits: string, larger: string }} options.expected the class for which the job is, and another one
 * @returns {Promise<string>} a line for the report
 */
export async function askAsKeda({ program, triggers, classes, expected }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-scaled-'));
  const [dataDir, modelsDir] = [path.join(folder, 'data'), path.join(folder, 'models')];
  await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
  const services = SERVICE_PROGRAMS.filter(({ name }) => name !== 'worker' && name !== 'puller');
  const stack = await startStack({ dataDir, modelsDir, services, env: { ...process.env, ...classes } });
  try {
    /** @param {string} name @param {string} [token] */
    const ask = async (name, token) => {
      const { metadata, ...trigger } = /** @type {Trigger} */ (triggers.get(name));
      // The address is the one of a Service of the cluster.
      const here = { ...trigger, metadata: { ...metadata, url: `${stack.apiUrl}/metrics` } };
      return await answerOf(program, { ...here, authParams: { token: token ?? 'none' } });
    };
    /** @param {string} call @param {string} type @param {string} body */
    const post = async (call, type, body) => {
      const response = await fetch(`${stack.apiUrl}${call}`, {
        method: 'POST',
        headers: { 'content-type': type },
        body,
      });
      if (!response.ok) throw new Error(`${call}: ${response.status} ${await response.text()}`);
      return /** @type {{ id: string }} */ (await response.json());
    };
    const before = [await ask(expected.fits), await ask(expected.larger)];
    const rows = Array.from(
      { length: 8 },
      (_, i) => `${JSON.stringify({ prompt: `Say ${i}.`, completion: `It is ${i}.` })}\n`,
    );
    const dataset = await post('/datasets', 'application/x-ndjson', rows.join(''));
    const job = { base_model: 'tiny-llama', dataset: dataset.id, training: { max_steps: 2 } };
    await post('/jobs', 'application/json', JSON.stringify(job));
    // A scrape within a second has the figures of the one before.
    let waiting = await ask(expected.fits);
    while (!waiting.active) waiting = await ask(expected.fits);
    const larger = await ask(expected.larger);
    const key = await keyOf(stack.redisUrl);
    const refused = await ask(expected.fits).catch((/** @type {Error} */ error) => error.message);
    const allowed = await ask(expected.fits, key);
    const found = { before, waiting, larger, refused: typeof refused === 'string', allowed };
    const none = { value: 0, target: 1, active: false };
    const one = { value: 1, target: 1, active: true };
    const wanted = { before: [none, none], waiting: one, larger: none, refused: true, allowed: one };
    if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(`${JSON.stringify({ ...found, refused })}`);
    return `without work ${JSON.stringify(before[0])}, with a job ${JSON.stringify(waiting)}; the larger class ${JSON.stringify(larger)}; without a key: ${refused}`;
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Runs the program of `helm test` against a real stack.
 *
 * @param {string} program
 * @returns {Promise<string>} its last line
 */
export async function runHelmTest(program) {
  const folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-helm-test-'));
  const modelsDir = path.join(folder, 'models');
  await writeTinyLlama(path.join(modelsDir, 'tiny-llama'));
  const stack = await startStack({ dataDir: path.join(folder, 'data'), modelsDir });
  try {
    const env = { TEST_API_URL: stack.apiUrl, TEST_BASE_MODEL: 'tiny-llama', TEST_TIMEOUT_SECONDS: '600' };
    const said = await runCommand(process.execPath, [program], { env: { ...process.env, ...env } });
    for (const call of ['/jobs', '/datasets', '/adapters']) {
      const { data } = /** @type {{ data: unknown[] }} */ (await (await fetch(`${stack.apiUrl}${call}`)).json());
      if (data.length > 0) throw new Error(`it leaves ${JSON.stringify(data)}`);
    }
    return said.trim().split('\n').at(-1) ?? '';
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {string} program @param {object} trigger @returns {Promise<{ value: number, target: number, active: boolean }>} */
async function answerOf(program, trigger) {
  const child = spawn(program, { stdio: 'pipe' });
  child.stdin.end(JSON.stringify(trigger));
  let [out, error] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    error += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(error.trim());
  const { value, target, active } = JSON.parse(out);
  return { value, target, active };
}

/** @param {string} redisUrl @returns {Promise<string>} an API key that sees everything */
async function keyOf(redisUrl) {
  const args = ['services/api/dist/keys.js', 'create', '--name', 'keda', '--role', 'admin'];
  const said = await runCommand(process.execPath, args, {
    cwd: ROOT_DIR,
    env: { ...process.env, REDIS_URL: redisUrl },
  });
  const [key] = /lsk_\S+/.exec(said) ?? [];
  if (key === undefined) throw new Error(`no key was made: ${said}`);
  return key;
}
