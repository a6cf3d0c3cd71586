import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createClient } from '../../../packages/client/dist/index.js';
import { startStack } from '../../../scripts/stack/start-stack.mjs';

/**
 * A job through the whole service, and what its events and its manifest say.
 *
 * @typedef {object} ServiceJob
 * @property {'succeeded' | 'failed' | 'cancelled' | string} status
 * @property {{ code: string, message: string } | null} error
 * @property {number} attempts
 * @property {{ step: number, loss: number }[]} steps with an event
 * @property {{ step: number, loss: number }[]} evaluations
 * @property {any} manifest null without an adapter
 */

/**
 * The job of `npm run demo`, by default with all its rows.
 *
 * @param {{ model: string, dataset: string, precision: 'float32' | 'bfloat16', maxSteps?: number | undefined }} options `model`: name of the base model
 * @returns {import('../../../packages/client/dist/index.js').JobRequest}
 */
export function demoJob({ model, dataset, precision, maxSteps }) {
  return {
    base_model: model,
    name: 'gpu-check',
    dataset,
    validation: { split: 0.05 },
    lora: { r: 8, alpha: 16, target_modules: 'all-linear' },
    training: {
      epochs: 1,
      batch_size: 8,
      learning_rate: 1e-3,
      warmup_ratio: 0.05,
      max_seq_length: 128,
      precision,
      ...(maxSteps === undefined ? {} : { max_steps: maxSteps }),
    },
  };
}

/**
 * Starts a stack of its own for `use`, and stops it afterwards.
 *
 * @template Result
 * @param {{ dataDir: string, model: string, env: NodeJS.ProcessEnv, log: (line: string) => void }} stack `model`: folder
 * @param {(stack: import('../../../scripts/stack/start-stack.mjs').Stack, client: import('../../../packages/client/dist/index.js').Client) => Promise<Result>} use
 * @returns {Promise<Result>} rejected when a part of the stack ends by itself
 */
export async function withStack({ dataDir, model, env, log }, use) {
  const stack = await startStack({
    dataDir,
    modelsDir: path.dirname(path.resolve(model)),
    env,
    onEvent: (event) => log('state' in event ? `${event.part} ${event.state}` : `${event.part}: ${event.line}`),
  });
  const stop = () => void stack.stop().finally(() => process.exit(143));
  process.once('SIGTERM', stop);
  try {
    const ended = stack.failed.then((error) => Promise.reject(error));
    return await Promise.race([use(stack, createClient({ baseUrl: stack.apiUrl })), ended]);
  } finally {
    process.off('SIGTERM', stop);
    await stack.stop();
  }
}

/**
 * @param {import('../../../packages/client/dist/index.js').Client} client
 * @param {{ rows: string, count?: number | undefined }} options `rows`: JSONL file, of which the first `count` are taken
 * @returns {Promise<string>} the dataset's id
 */
export async function uploadRows(client, { rows, count }) {
  const lines = (await readFile(rows, 'utf8')).trimEnd().split('\n').slice(0, count);
  const dataset = await client.uploadDataset({ text: `${lines.join('\n')}\n` }, { name: 'gpu-check' });
  return dataset.id;
}

/**
 * Follows a job to its end.
 *
 * @param {import('../../../packages/client/dist/index.js').Client} client
 * @param {string} id
 * @param {(job: Pick<ServiceJob, 'steps' | 'evaluations'>) => void} onProgress
 * @returns {Promise<ServiceJob>}
 */
export async function followJob(client, id, onProgress = () => {}) {
  /** @type {ServiceJob['steps']} */
  const steps = [];
  /** @type {ServiceJob['evaluations']} */
  const evaluations = [];
  for await (const { type, data } of client.events(id)) {
    if (type === 'step-finished') {
      steps.push({ step: data.step, loss: data.loss });
    } else if (type === 'evaluation-finished') evaluations.push({ step: data.step, loss: data.loss });
    else continue;
    onProgress({ steps, evaluations });
  }
  const { status, error, attempts, adapter } = await client.getJob(id);
  const manifest = adapter === null ? null : await client.manifest(adapter);
  return { status, error, attempts, steps, evaluations, manifest };
}
