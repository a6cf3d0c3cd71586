import { readModelFolder, WeightDigests } from '../../../packages/model-folder/dist/index.js';
import { LoraAdapter, tokenBatchOf } from '../../../packages/models/dist/index.js';
import { ADAMW_DEFAULTS, AdamW } from '../../../packages/training/dist/adamw.js';
import { runnable } from '../../../packages/training/dist/batches.js';
import { BaseModelCache, openSession, PassScheduler } from '../../../packages/training/dist/index.js';
import { NextToken } from '../../../packages/training/dist/objectives/next-token/next-token.js';
import { optimizerStep } from '../../../packages/training/dist/optimizer-step.js';

/**
 * A training session's forward-backward with its step, and the step of a job on the same rows with the same adapter, by turns in one process: see
 * besideQuantized of engine.mjs.
 *
 * @param {{ model: string, precision: 'float32' | 'bfloat16', head: boolean, rows: number, length: number, pairs: number }} options
 * @param {any} kernels
 */
export async function session({ model, precision, head, rows, length, pairs }, kernels) {
  const cache = new BaseModelCache(kernels);
  const digests = /** @type {any} */ (new WeightDigests(null));
  const { signal } = new AbortController();
  const spec = { base_model: 'bench', rank: 8, seed: 1, train_attn: true, train_mlp: true, train_unembed: head };
  const opened = await openSession({ spec, modelFolder: model, precision, machine: null, signal, cache, digests });
  const folder = /** @type {any} */ (await readModelFolder(model));
  const { model: base } = await cache.lease(folder, precision, { digests });
  if (base.kind !== 'decoder') throw new Error('the benchmark trains a language model');
  const vocabulary = base.architecture.vocabSize;
  const ids = Array.from({ length: rows }, (_, row) =>
    Int32Array.from({ length: length + 1 }, (_id, i) => (row * 31 + i * 17) % vocabulary),
  );
  const tokens = rows * length;

  const ofSession = async () => {
    const weights = new Float32Array(length).fill(1 / tokens);
    const data = ids.map((row) => ({
      ...{ tokens: row.slice(0, -1), targets: row.slice(1), targetsEach: 1 },
      fields: { weights },
    }));
    await opened.do({ kind: 'forward-backward', loss: 'cross_entropy', settings: {}, isForwardOnly: false, data });
    const betas = { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    await opened.do({ kind: 'optimizer-step', learning_rate: 1e-4, weight_decay: 0, grad_clip_norm: 1, ...betas });
  };

  const targets = opened.described.modules.map((name) => ({ name, rank: 8, scale: 4 }));
  const adapter = new LoraAdapter(/** @type {any} */ (base.groups), { targets, dropout: 0, seed: 1 });
  const trained = /** @type {any} */ (adapter);
  const optimizer = new AdamW(kernels, adapter.parameterCount, { ...ADAMW_DEFAULTS, weightDecay: 0 });
  const objective = new NextToken(base);
  const passes = new PassScheduler().join();
  const ofJob = async () => {
    const sequences = ids.map((row) => ({ ids: row, trained: new Uint8Array(length + 1).fill(1) }));
    const batch = runnable(objective, /** @type {any} */ (tokenBatchOf(sequences)));
    const settings = { seed: 1, max_grad_norm: 1, learningRate: 1e-4, recomputedLayers: 0 };
    await optimizerStep(trained, optimizer, [batch], settings, passes);
  };

  for (const run of [ofSession, ofJob]) await run();
  /** @type {{ session: number[], job: number[] }} */
  const seconds = { session: [], job: [] };
  /** @type {number[]} */
  const ratios = [];
  for (let pair = 0; pair < pairs; pair++) {
    const order = /** @type {const} */ (['session', 'job']);
    const processor = { session: 0, job: 0 };
    for (const which of pair % 2 === 0 ? order : order.toReversed()) {
      const before = process.cpuUsage();
      const start = performance.now();
      await (which === 'session' ? ofSession() : ofJob());
      seconds[which].push((performance.now() - start) / 1e3);
      processor[which] = process.cpuUsage(before).user;
    }
    ratios.push(processor.job / processor.session);
  }
  const median = (/** @type {number[]} */ values) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
  return {
    ...{ tokens, precision, head },
    session_tokens_per_second: tokens / median(seconds.session),
    job_tokens_per_second: tokens / median(seconds.job),
    // Of the time of processors: the rate of the session by that of the job.
    processor_share: median(ratios),
  };
}
