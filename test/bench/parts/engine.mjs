import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  hasExperts,
  readModelFolder,
  WeightDigests,
  withBaseQuantization,
} from '../../../packages/model-folder/dist/index.js';
import {
  ALL_LAYERS,
  DenseLinear,
  LoraAdapter,
  loadBaseModel,
  loadDecoder,
  tokenBatchOf,
} from '../../../packages/models/dist/index.js';
import { chooseKernels, dispose, fill, observeOps, scope } from '../../../packages/tensor/dist/index.js';
import { NextToken } from '../../../packages/training/dist/objectives/next-token/next-token.js';

/**
 * @typedef {'float32' | 'bfloat16'} Precision
 *
 * @typedef {any} Kernels a KernelSet: the type check sees the sources of one package and the build of another
 *
 * @typedef {object} StepOptions
 * @property {string} model folder
 * @property {Precision} precision
 * @property {number} rows of the micro-batch
 * @property {number} length of each row
 * @property {number} repeats
 */

/**
 * Tokens per second and peak memory of one size of micro-batch.
 *
 * @param {StepOptions & { recompute?: boolean, quantization?: 'none' | 'nf4' }} options
 * @param {Kernels} kernels
 */
export async function growth({ model, precision, rows, length, recompute = false, quantization, repeats }, kernels) {
  const { batchOf, run } = await engineStep(kernels, model, precision, quantization);
  const batch = batchOf({ rows, length });
  const seconds = medianSeconds(() => run(batch, recompute), repeats);
  return {
    rows,
    length,
    tokens: rows * length,
    tokens_per_second: (rows * length) / seconds,
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
  };
}

/**
 * The measurements of a worker on its machine, and the share of the rate of matrix products that a training step reaches.
 *
 * @param {StepOptions & { adapted?: 'attention' | 'experts' }} options
 * @param {Kernels} kernels
 */
export async function machine({ model, precision, rows, length, adapted, repeats }, kernels) {
  const { stepWork } = await import('../../../packages/planning/dist/index.js');
  const { measureMachine } = await import('../../../packages/training/dist/index.js');
  const profileOfMachine = await measureMachine(/** @type {any} */ (kernels));
  const { decoder, folder, targets, batchOf, run } = await engineStep(kernels, model, precision, 'none', adapted);
  const tokens = rows * length;
  const batch = batchOf({ rows, length });
  const seconds = medianSeconds(() => run(batch), repeats);
  const { products, attention, states } = stepWork(
    { architecture: decoder.architecture, modules: folder.modules, targets, recomputedLayers: 0 },
    {
      tokensPerStep: tokens,
      labelsPerStep: batch.labels.length,
      squaresPerStep: rows * length ** 2,
      microBatchesPerStep: 1,
    },
  );
  const own = productRate(decoder, precision, tokens, repeats);
  const plain = await loadDecoder(folder, precision, /** @type {any} */ (chooseKernels('raw')));
  const tensorflow = productRate(plain, precision, tokens, repeats);
  plain.dispose();
  const modelRate = (products + attention + states) / seconds;
  return {
    profile: profileOfMachine,
    tokens,
    tokens_per_second: tokens / seconds,
    model_gflops_per_second: modelRate,
    matmul_gflops_per_second: { own, tensorflow },
    share: { own: modelRate / own, tensorflow: modelRate / tensorflow },
  };
}

/**
 * The time of a training step by kind of op.
 *
 * @param {StepOptions} options
 * @param {Kernels} kernels
 */
export async function profile({ model, precision, rows, length, repeats }, kernels) {
  const { batchOf, run } = await engineStep(kernels, model, precision);
  const batch = batchOf({ rows, length });
  const stepSeconds = medianSeconds(() => run(batch), repeats);
  /** @type {Map<string, { calls: number, seconds: number }>} */
  const kinds = new Map();
  observeOps(({ name, seconds }) => {
    const kind = kinds.get(name) ?? { calls: 0, seconds: 0 };
    kind.calls += 1;
    kind.seconds += seconds;
    kinds.set(name, kind);
  });
  for (let repeat = 0; repeat < repeats; repeat++) run(batch);
  observeOps(null);
  const ops = [...kinds]
    .map(([name, { calls, seconds }]) => ({ name, calls: calls / repeats, seconds: seconds / repeats }))
    .sort((a, b) => b.seconds - a.seconds);
  const inOps = ops.reduce((sum, { seconds }) => sum + seconds, 0);
  return { tokens: rows * length, seconds: stepSeconds, seconds_in_ops: inOps, ops };
}

/**
 * Tokens per second of a pass that so many jobs share, each with its rows and an adapter of all linear layers, and the seconds of its products
 * with the frozen weights.
 *
 * @param {StepOptions & { jobs: number }} options `rows` of each job
 * @param {Kernels} kernels
 */
export async function sharedPass({ model, precision, jobs, rows, length, repeats }, kernels) {
  const { decoder, folder, batchOf, objective } = await engineStep(kernels, model, precision);
  const targets = folder.modules.map((layer) => ({ ...layer, rank: 8, scale: 2 }));
  const adapters = Array.from(
    { length: jobs },
    (_, seed) => new LoraAdapter(decoder.groups, { targets, dropout: 0, seed }),
  );
  const batch = batchOf({ rows: jobs * rows, length });
  const tokens = rows * length;
  const acting = adapters.map((adapter, job) => ({ adapter, tokens: { first: job * tokens, count: tokens } }));
  const run = () => {
    scope(() => void objective.lossAndGradients(batch, { adapters: acting, recomputedLayers: 0 }));
    for (const adapter of adapters) adapter.takeGradient().dispose();
  };
  const seconds = medianSeconds(run, repeats);
  let inProducts = 0;
  observeOps((op) => {
    if (op.name.endsWith('Product')) inProducts += op.seconds;
  });
  run();
  observeOps(null);
  return { jobs, tokens_per_second: (jobs * tokens) / seconds, seconds, seconds_in_products: inProducts };
}

/**
 * The time of a micro-batch in bfloat16 and of the same with the weights in NF4, by turns in one process: a machine whose speed
 * changes by itself changes both. A pair is one of each, and in every other pair NF4 is first. Time of processors, unlike that of the
 * clock, is without what else runs.
 *
 * @param {{ model: string, rows: number, length: number, pairs: number }} options
 * @param {Kernels} kernels
 */
export async function besideQuantized({ model, rows, length, pairs }, kernels) {
  /** @type {(() => void)[]} */
  const runs = [];
  for (const quantization of /** @type {const} */ (['none', 'nf4'])) {
    const { batchOf, run } = await engineStep(kernels, model, 'bfloat16', quantization);
    const batch = batchOf({ rows, length });
    runs.push(() => run(batch));
  }
  for (const run of runs) run();
  /** @type {{ seconds: [dense: number, packed: number], processor: [dense: number, packed: number] }[]} */
  const measured = Array.from({ length: pairs }, () => ({ seconds: [0, 0], processor: [0, 0] }));
  for (const [pair, { seconds, processor }] of measured.entries()) {
    for (const index of /** @type {(0 | 1)[]} */ (pair % 2 === 0 ? [0, 1] : [1, 0])) {
      const before = process.cpuUsage();
      const start = performance.now();
      runs[index]?.();
      seconds[index] = (performance.now() - start) / 1e3;
      processor[index] = process.cpuUsage(before).user / 1e6;
    }
  }
  const tokens = rows * length;
  const ratios = measured.map(({ seconds: [dense, packed] }) => packed / dense).sort((one, other) => one - other);
  return {
    dense_tokens_per_second: tokens / median(measured.map(({ seconds: [dense] }) => dense)),
    packed_tokens_per_second: tokens / median(measured.map(({ seconds: [, packed] }) => packed)),
    ratio: median(ratios),
    ratios,
    processor_ratio: median(measured.map(({ processor: [dense, packed] }) => packed / dense)),
  };
}

/**
 * Bytes per second of loading a base model, with its digest and with one that is remembered, and of a plain read of the same
 * files. All with a warm page cache, and not for the first time in the process. Bytes are those of the files.
 *
 * @param {{ model: string, precision: Precision, quantization?: 'none' | 'nf4' }} options
 * @param {Kernels} kernels
 */
export async function loading({ model, precision, quantization = 'none' }, kernels) {
  const folder = withBaseQuantization(await readModelFolder(model), quantization);
  const plain = async () => {
    for (const { path } of folder.files) for await (const _ of createReadStream(path, { highWaterMark: 2 ** 20 }));
  };
  await plain();
  const plainSeconds = await secondsOf(plain);
  // Starts the engine, and gives the machine's memory to this process: a virtual machine first gets it from its host.
  (await loadDecoder(folder, precision, kernels)).dispose();
  const remembered = await mkdtemp(join(tmpdir(), 'lorasmith-bench-digests-'));
  // The type check sees the sources of the one package and the build of the other.
  const digests = /** @type {any} */ (new WeightDigests(remembered));
  const load = async () => (await loadBaseModel(folder, precision, kernels, { digests })).model.dispose();
  try {
    const firstSeconds = await secondsOf(load);
    const loadSeconds = await secondsOf(load);
    return {
      dtype: folder.dtype,
      bytes: folder.weightBytes,
      plain_bytes_per_second: folder.weightBytes / plainSeconds,
      first_load_bytes_per_second: folder.weightBytes / firstSeconds,
      load_bytes_per_second: folder.weightBytes / loadSeconds,
      peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await rm(remembered, { recursive: true });
  }
}

/**
 * A model with LoRA on q and v, or on its experts, and a function that runs a micro-batch forward and backward.
 *
 * @param {Kernels} kernels
 * @param {string} modelFolder
 * @param {Precision} precision
 * @param {'none' | 'nf4'} [quantization]
 * @param {'attention' | 'experts'} [adapted]
 */
async function engineStep(kernels, modelFolder, precision, quantization = 'none', adapted = 'attention') {
  const folder = withBaseQuantization(await readModelFolder(modelFolder), quantization);
  const decoder = await loadDecoder(folder, precision, kernels);
  const ofAttention = folder.modules.filter(({ name }) => /[qv]_proj$/.test(name));
  const targets = (adapted === 'experts' ? folder.parameters : ofAttention).map((layer) => ({
    ...layer,
    rank: 8,
    scale: 2,
  }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  // The type check sees the sources of the one package and the build of the other.
  const objective = new NextToken(/** @type {any} */ (decoder));
  const vocabulary = decoder.architecture.vocabSize;

  /** @param {{ rows: number, length: number, labelled?: number }} size `labelled`: the share of tokens with a loss */
  const batchOf = ({ rows, length, labelled = 0.5 }) =>
    tokenBatchOf(
      Array.from({ length: rows }, (_, row) => ({
        ids: Int32Array.from({ length }, (_id, i) => (row * 31 + i * 17) % vocabulary),
        trained: Uint8Array.from({ length }, (_id, i) => Number(i >= length * (1 - labelled))),
      })),
    );

  return {
    decoder,
    folder,
    targets,
    objective,
    batchOf,
    /**
     * @param {ReturnType<typeof batchOf>} batch
     * @param {boolean} [recompute]
     */
    run(batch, recompute = false) {
      const pass = { adapters: [{ adapter }], recomputedLayers: recompute ? ALL_LAYERS : 0 };
      scope(() => void objective.lossAndGradients(batch, pass)); // frees the losses
      adapter.takeGradient().dispose();
    },
  };
}

/**
 * The rate, in 10⁹ operations a second, of the products in the layers of a model, forward and backward, without other
 * work between them.
 *
 * @param {Awaited<ReturnType<typeof loadDecoder>>} decoder
 * @param {Precision} precision
 * @param {number} tokens
 * @param {number} repeats
 */
function productRate(decoder, precision, tokens, repeats) {
  /** One product of each shape, its rows, and how many of the layers have it. @type {Map<string, { linear: any, rows: number, count: number }>} */
  const products = new Map();
  const [experts] = decoder.architecture.layers.flatMap(({ mlp }) => (hasExperts(mlp) ? [mlp.experts] : []));
  // The last one is the head's, which sees only the tokens with a loss.
  for (const { linear, modules } of decoder.groups.slice(0, -1)) {
    const isExpert = modules[0]?.expert !== undefined;
    const rows = isExpert && experts !== undefined ? Math.round((tokens * experts.perToken) / experts.count) : tokens;
    const shape = `${rows} ${linear.inFeatures} ${linear.outFeatures}`;
    const known = products.get(shape);
    // An expert by itself copies its weight for each product.
    const alone = () =>
      isExpert ? new DenseLinear(linear.kernels, linear.weightRows(0, linear.outFeatures), null) : linear;
    products.set(shape, { linear: known?.linear ?? alone(), rows, count: (known?.count ?? 0) + 1 });
  }
  let operations = 0;
  let seconds = 0;
  for (const { linear, rows, count } of products.values()) {
    const { inFeatures, outFeatures } = linear;
    const x = fill([rows, inFeatures], 0.01, precision);
    const gradient = fill([rows, outFeatures], 0.01, precision);
    seconds +=
      count *
      medianSeconds(() => {
        linear.forward(x).dispose();
        linear.backwardInput(gradient).dispose();
      }, repeats + 4);
    operations += count * 2 * 2 * rows * outFeatures * inFeatures;
    dispose([x, gradient]);
  }
  return operations / seconds / 1e9;
}

/**
 * The median of several timings, after one that does not count.
 *
 * @param {() => void} work
 * @param {number} repeats
 */
function medianSeconds(work, repeats) {
  const seconds = [];
  for (let repeat = 0; repeat <= repeats; repeat++) {
    const start = performance.now();
    work();
    if (repeat > 0) seconds.push((performance.now() - start) / 1e3);
  }
  return median(seconds);
}

/** @param {number[]} values */
function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

/** @param {() => Promise<void>} work */
async function secondsOf(work) {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1e3;
}
