/** @typedef {import('../../packages/contracts/dist/index.js').MachineProfile} MachineProfile */
/** @typedef {import('../../packages/model-folder/dist/index.js').ModelFolder} ModelFolder */
/** @typedef {Pick<typeof import('../../packages/model-folder/dist/index.js'), 'LLAMA_NAMES' | 'linearGroups'>} Layouts */
/** @typedef {Pick<typeof import('../../packages/planning/dist/index.js'), 'decodedMemory' | 'decoderMemory' | 'engineMemory' | 'fewestRecomputed' | 'logitsPerChunk' | 'weightMemory'>} Planning */

/** See services/worker/src/device: what the driver, the kernels and cuBLASLt take of the card, and what is kept free. */
const RESERVED = { cuda: 2 ** 30, tensorflow: 2 ** 31, cpu: 0 };
const KEPT_FREE = 0.05;
/** No time is estimated. */
const NO_RATES = { matmul_gflops: 1, attention_gflops: 1, weight_gbytes: 1, pass_gbytes: 1, layer_overhead_ms: 0 };

/**
 * @typedef {{
 *   hidden: number;
 *   intermediate: number;
 *   layers: number;
 *   heads: number;
 *   keyValue: number;
 *   headDim: number;
 *   vocab: number;
 *   tiedHead: boolean;
 * }} Shape
 */

/** The sizes in the config.json of published models. */
export const PUBLISHED_SHAPES = /** @satisfies {Record<string, Shape>} */ ({
  'SmolLM2 135M': {
    hidden: 576,
    intermediate: 1536,
    layers: 30,
    heads: 9,
    keyValue: 3,
    headDim: 64,
    vocab: 49_152,
    tiedHead: true,
  },
  'Llama 3.2 1B': {
    hidden: 2048,
    intermediate: 8192,
    layers: 16,
    heads: 32,
    keyValue: 8,
    headDim: 64,
    vocab: 128_256,
    tiedHead: true,
  },
  'Llama 3.2 3B': {
    hidden: 3072,
    intermediate: 8192,
    layers: 28,
    heads: 24,
    keyValue: 8,
    headDim: 128,
    vocab: 128_256,
    tiedHead: true,
  },
  'Qwen3 4B': {
    hidden: 2560,
    intermediate: 9728,
    layers: 36,
    heads: 32,
    keyValue: 8,
    headDim: 128,
    vocab: 151_936,
    tiedHead: true,
  },
  'Qwen3 8B': {
    hidden: 4096,
    intermediate: 12_288,
    layers: 36,
    heads: 32,
    keyValue: 8,
    headDim: 128,
    vocab: 151_936,
    tiedHead: false,
  },
  'Llama 3.1 8B': {
    hidden: 4096,
    intermediate: 14_336,
    layers: 32,
    heads: 32,
    keyValue: 8,
    headDim: 128,
    vocab: 128_256,
    tiedHead: false,
  },
  'Gemma 3 12B': {
    hidden: 3840,
    intermediate: 15_360,
    layers: 48,
    heads: 16,
    keyValue: 8,
    headDim: 256,
    vocab: 262_208,
    tiedHead: true,
  },
  'Qwen3 14B': {
    hidden: 5120,
    intermediate: 17_408,
    layers: 40,
    heads: 40,
    keyValue: 8,
    headDim: 128,
    vocab: 151_936,
    tiedHead: false,
  },
  'Mistral Small 3 24B': {
    hidden: 5120,
    intermediate: 32_768,
    layers: 40,
    heads: 32,
    keyValue: 8,
    headDim: 128,
    vocab: 131_072,
    tiedHead: false,
  },
  'Qwen3 32B': {
    hidden: 5120,
    intermediate: 25_600,
    layers: 64,
    heads: 64,
    keyValue: 8,
    headDim: 128,
    vocab: 151_936,
    tiedHead: false,
  },
  'Llama 3.3 70B': {
    hidden: 8192,
    intermediate: 28_672,
    layers: 80,
    heads: 64,
    keyValue: 8,
    headDim: 128,
    vocab: 128_256,
    tiedHead: false,
  },
});

/**
 * A model of a shape, without weights: what the estimate reads of a base-model folder.
 *
 * @param {Layouts} layouts @param {string} name @param {Shape} shape
 */
export function modelOf({ LLAMA_NAMES, linearGroups }, name, shape) {
  const { hidden, intermediate, layers, heads, keyValue, headDim, vocab, tiedHead } = shape;
  /** @type {import('../../packages/model-folder/dist/index.js').DecoderArchitecture} */
  const architecture = {
    kind: 'decoder',
    family: 'llama',
    names: LLAMA_NAMES,
    vocabSize: vocab,
    hiddenSize: hidden,
    intermediateSize: intermediate,
    layerCount: layers,
    headCount: heads,
    keyValueHeadCount: keyValue,
    headDim,
    embeddingScale: 1,
    branchScale: 1,
    logitScale: 1,
    norm: { kind: 'rms', epsilon: 1e-5, weightOffset: 0 },
    ropes: [{ theta: 10_000, partialRotaryFactor: 1, interleaved: false, scaling: null }],
    attention: {
      softcap: null,
      queryGrowth: null,
      queryKeyNorm: 'head',
      valueNorm: null,
      outputGate: null,
    },
    layers: Array.from({ length: layers }, () => ({
      mixer: { kind: 'attention', scale: headDim ** -0.5, window: null, rope: 0 },
      mlp: { kind: 'dense' },
    })),
    layerInputs: null,
    mlp: { gated: true, activation: 'silu' },
    bias: { queryKeyValue: false, attentionOutput: false, mlp: false },
    transposedWeights: false,
    logitSoftcap: null,
    tiedHead,
    maxPositions: 8192,
    ignoredDropout: [],
    bosTokenId: null,
    eosTokenIds: [],
    padTokenId: null,
  };
  const linears = Array.from({ length: layers }, (_, index) => linearGroups(architecture, index)).flat(2);
  const numbers = linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
  /** @type {ModelFolder} */
  const model = {
    ...{
      path: '',
      name,
      origin: null,
      architecture,
      files: [],
      tensors: new Map(),
      quantized: new Map(),
      baseQuantization: 'none',
    },
    linears: new Map(linears.map((linear) => [linear.name, linear])),
    expertParameters: new Map(),
    modules: linears.map(({ name: module, inFeatures, outFeatures }) => {
      return { name: module, in_features: inFeatures, out_features: outFeatures };
    }),
    ...{ parameters: [], headModule: null, untiedByFiles: false, weightBytes: 0, dtype: 'bfloat16' },
    parameterCount: numbers + (tiedHead ? 1 : 2) * vocab * hidden,
  };
  return { ...model, architecture };
}

/**
 * The memory that the estimate expects of a training in bfloat16 that adapts every linear layer, by how many layers are computed again.
 *
 * @param {Planning} planning
 * @param {ReturnType<typeof modelOf>} model
 * @param {{
 *   kind: MachineProfile['engine']['kind'];
 *   cardBytes: number;
 *   rank: number;
 *   rows: number;
 *   length: number;
 * }} options `cardBytes`: as the driver reports them
 */
export function memoryOnCard(planning, model, { kind, cardBytes, rank, rows, length }) {
  const { decodedMemory, decoderMemory, engineMemory, logitsPerChunk, weightMemory } = planning;
  const { architecture, modules } = model;
  /** @type {MachineProfile} */
  const machine = {
    ...{ worker: '', measured_at: '', processor: '', base_memory_bytes: 0, pass_tokens: 1024 },
    // A processor with AVX-512.
    kernels: kind === 'cpu' ? 'avx512bf16' : kind,
    memory_bytes: cardBytes - RESERVED[kind],
    rates: { float32: NO_RATES, bfloat16: NO_RATES },
    engine: { kind, card: null, self_test: null },
  };
  const targets = modules.map((module) => ({ ...module, rank, scale: 1 }));
  const trainedParameters = modules.reduce((sum, module) => sum + rank * (module.in_features + module.out_features), 0);
  /** @param {number} recomputedLayers */
  const peakOf = (recomputedLayers) =>
    decoderMemory({
      settings: {
        ...{ architecture, targets, trainedParameters, recomputedLayers, optimizer: 'adamw' },
        weightBytes: weightMemory(model, 'bfloat16', machine.kernels),
        decodedBytes: decodedMemory(model, 'bfloat16', machine.kernels),
        precision: 'bfloat16',
        dropout: 0,
        engine: engineMemory(machine.engine),
        logitsInChunk: logitsPerChunk(machine, 'bfloat16'),
        sampleCacheBytes: 0,
      },
      load: { mostTokens: rows * length, mostLabels: rows * (length - 1), longestRow: length },
      evaluation: null,
    });
  return { peakOf, availableBytes: machine.memory_bytes * (1 - KEPT_FREE) };
}

const MODELS = /** @type {const} */ ([
  'Llama 3.2 1B',
  'Llama 3.2 3B',
  'Qwen3 4B',
  'Qwen3 8B',
  'Llama 3.1 8B',
  'Gemma 3 12B',
  'Qwen3 14B',
  'Mistral Small 3 24B',
  'Qwen3 32B',
  'Llama 3.3 70B',
]);
/** The memory of usual cards, as the driver reports it, in MiB. */
const CARDS = /** @type {const} */ ([
  ['8 GB', 8_188],
  ['12 GB', 12_288],
  ['16 GB', 16_376],
  ['24 GB', 24_564],
  ['48 GB', 46_068],
  ['80 GB', 81_559],
]);
const LENGTH = 2048;
const RANK = 16;
/** Larger micro-batches are no faster. */
const MOST_ROWS = 16;

/**
 * The table of models and cards: the most rows of a micro-batch with which a model can be trained on a card.
 *
 * @param {Layouts & Pick<typeof import('../../packages/model-folder/dist/index.js'), 'withBaseQuantization'>} modelFolder
 * @param {Planning} planning
 */
export function cardTable(modelFolder, planning) {
  const { withBaseQuantization } = modelFolder;
  const rows = MODELS.flatMap((name) => {
    const dense = modelOf(modelFolder, name, PUBLISHED_SHAPES[name]);
    const quantized = { ...dense, ...withBaseQuantization(dense, 'nf4'), architecture: dense.architecture };
    return [
      [name, 'bf16', ...CARDS.map(([, mebibytes]) => rowsText(planning, dense, mebibytes))],
      ['', 'nf4', ...CARDS.map(([, mebibytes]) => rowsText(planning, quantized, mebibytes))],
    ];
  });
  const head = ['Model', 'Weights', ...CARDS.map(([name]) => name)];
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** @param {Planning} planning @param {ReturnType<typeof modelOf>} model @param {number} mebibytes */
function rowsText(planning, model, mebibytes) {
  /** @param {number} layers that may be computed again, as few as the job needs */
  const most = (layers) => {
    for (let rows = MOST_ROWS; rows >= 1; rows /= 2) {
      const options = {
        kind: /** @type {const} */ ('cuda'),
        cardBytes: mebibytes * 2 ** 20,
        rank: RANK,
        rows,
        length: LENGTH,
      };
      const { peakOf, availableBytes } = memoryOnCard(planning, model, options);
      const fits = (/** @type {number} */ count) => peakOf(count) <= availableBytes;
      if (fits(planning.fewestRecomputed(layers, fits))) return String(rows);
    }
    return '–';
  };
  const [kept, recomputed] = [most(0), most(model.architecture.layerCount)];
  return recomputed === '–' ? '–' : `${kept}/${recomputed}`;
}
