// node test/bench/gpu-arithmetic.mjs
// What a training step and a step of generation take of a GPU, computed and not measured: operations and bytes are the estimate's
// own (packages/planning), rates are those that NVIDIA publishes, and the shares of them that a step reaches are assumed.

import * as modelFolder from '../../packages/model-folder/dist/index.js';
import * as planning from '../../packages/planning/dist/index.js';
import { memoryOnCard, modelOf, PUBLISHED_SHAPES } from '../../scripts/docs/model-on-card.mjs';
import { BYTES, H100, L4, NF4_BYTES, PUBLISHED_RATES, REACHED, RTX_4090 } from './cards.mjs';
import { attentionCycles, attentionTables, mixtureTables } from './layer-arithmetic.mjs';
import { gigabytes, table } from './tables.mjs';

const LARGEST = modelOf(modelFolder, '8B', PUBLISHED_SHAPES['Llama 3.1 8B']);
const MODELS = [
  modelOf(modelFolder, '135M', PUBLISHED_SHAPES['SmolLM2 135M']),
  modelOf(modelFolder, '1B', PUBLISHED_SHAPES['Llama 3.2 1B']),
  LARGEST,
];
const BATCHES = [
  { rows: 4, length: 512 },
  { rows: 4, length: 2048 },
  { rows: 1, length: 8192 },
];
const CARDS = [H100, RTX_4090, L4];
const RANK = 8;
/** The share of the bounds of attention's loops that its kernels reach. */
const REACHED_OF_ATTENTION_BOUND = 0.5;
/** The numbers of ops of a pass with one adapter, as packages/training/src/step-ops.test.ts bounds them. */
const OPS = { ofLayer: 19, recomputed: 29, outsideLayers: 21 };
/** Kernels and products that these launch, as test/emulated/training-step.test.ts bounds them: an adapted group five forward and seven backward. */
const LAUNCHES = { ofLayer: 66, recomputed: 92, outsideLayers: 31 };
/** The same of a step of generation: test/emulated/generation-step.test.ts. */
const GENERATION_OPS = { ofLayer: 12, outsideLayers: 12 };
const GENERATION_LAUNCHES = { ofLayer: 26, outsideLayers: 14 };
const TEXTS = [
  { texts: 1, length: 2048 },
  { texts: 16, length: 2048 },
];
/**
 * The time of calling one op from JavaScript, measured on a CPU without a driver, and that of a launch in the driver, which is assumed.
 * Both run while the GPU works, so only the longer of the two counts.
 */
const HOST_SECONDS = { ofOp: 13.6e-6, ofLaunch: 2.5e-6 };

/** @param {{ ops: number, launches: number }} counts */
const dispatchSeconds = ({ ops, launches }) => ops * HOST_SECONDS.ofOp + launches * HOST_SECONDS.ofLaunch;

/**
 * Ops and launches of a training step.
 *
 * @param {number} layers
 * @param {number} recomputed of them
 */
function stepCalls(layers, recomputed) {
  /** @param {typeof OPS} counts */
  const of = ({ ofLayer, recomputed: again, outsideLayers }) =>
    ofLayer * layers + (again - ofLayer) * recomputed + outsideLayers;
  return { ops: of(OPS), launches: of(LAUNCHES) };
}

/**
 * native/ops/scatter/scatter.cu: each of so many warps goes through all indices in steps, by the disassembly for sm_90 with so many
 * instructions. A warp alone on its scheduler is taken to issue one in four cycles, and to wait for memory in each step and for each of its rows.
 */
const SCATTER = { warps: 512, indices: 256, instructions: 170, cyclesOfInstruction: 4, cyclesOfMemory: 600 };

/**
 * The bytes and instructions of the scatters of the last layer: gradients by the tokens that have a label become gradients by all, in float32 of the stream and in bfloat16 of
 * attention's output.
 *
 * @param {(typeof MODELS)[number]['architecture']} architecture
 * @param {{ tokens: number, labels: number }} load
 * @param {typeof H100} card
 */
function scatterWork({ hiddenSize, headCount, headDim }, { tokens, labels }, card) {
  const bytes = (tokens + labels) * (4 * hiddenSize + 2 * headCount * headDim) + 2 * 4 * (tokens + labels);
  const steps = Math.ceil(labels / SCATTER.indices);
  const waits = steps + labels / SCATTER.warps;
  const cycles = steps * SCATTER.instructions * SCATTER.cyclesOfInstruction + waits * SCATTER.cyclesOfMemory;
  return { bytes, linking: (2 * cycles) / (card.gigahertz * 1e9) };
}

/**
 * The memory that the estimate expects.
 *
 * @param {'cuda' | 'tensorflow'} kind
 * @param {(typeof MODELS)[number]} model
 * @param {(typeof BATCHES)[number]} batch
 * @param {(typeof CARDS)[number]} card
 * @param {number} [rank]
 */
function memory(kind, model, batch, card, rank = RANK) {
  const options = { kind, cardBytes: card.memory, rank, ...batch };
  const { peakOf, availableBytes } = memoryOnCard(planning, model, options);
  const { layerCount } = model.architecture;
  const recomputedLayers = planning.fewestRecomputed(layerCount, (count) => peakOf(count) <= availableBytes);
  const peak = peakOf(recomputedLayers);
  const again = recomputedLayers === 0 ? '' : `, ${recomputedLayers} of ${layerCount} layers again`;
  return { recomputedLayers, peak, fits: peak <= availableBytes, text: `${gigabytes(peak)}${again}` };
}

/**
 * A training step by the estimate's own work.
 *
 * @param {(typeof MODELS)[number]} model
 * @param {(typeof BATCHES)[number]} batch
 * @param {(typeof CARDS)[number]} card
 */
function step(model, batch, card) {
  const { architecture, modules } = model;
  const { rows, length } = batch;
  const tokens = rows * length;
  const labels = tokens - rows;
  const targets = modules.map((module) => ({ ...module, rank: RANK, scale: 2 }));
  const held = memory('cuda', model, batch, card);
  const { recomputedLayers } = held;
  const work = planning.stepWork(
    { architecture, modules, targets, recomputedLayers, adapters: 'joint' },
    { tokensPerStep: tokens, labelsPerStep: labels, squaresPerStep: rows * length ** 2, microBatchesPerStep: 1 },
  );
  // The logits are written, read, replaced by their gradient, and read again.
  const logitBytes = 4 * 2 * labels * architecture.vocabSize;
  const scatter = scatterWork(architecture, { tokens, labels }, card);
  const bytes = work.traffic * 1e9 + logitBytes + scatter.bytes;
  const seconds = {
    products: (work.products * 1e9) / (card.teraflops * 1e12 * card.products),
    attention: (work.attention * 1e9) / (card.teraflops * 1e12 * REACHED.attention),
    passes: bytes / (card.terabytes * 1e12 * REACHED.passes) + scatter.linking,
  };
  const onCard = seconds.products + seconds.attention + seconds.passes;
  const calls = stepCalls(architecture.layerCount, recomputedLayers);
  const dispatch = dispatchSeconds(calls);
  return {
    ...{ tokens, held, calls, bytes, seconds, onCard, dispatch, work },
    total: Math.max(onCard, dispatch),
  };
}

/** @param {number} seconds */
const milliseconds = (seconds) => (seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0);

/** @param {ReturnType<typeof step>} of what binds, with its share of the step */
function binding({ seconds, onCard, dispatch }) {
  if (dispatch > onCard) return `dispatch (the card has work for ${milliseconds(onCard)} ms)`;
  const parts = Object.entries(seconds).sort(([, a], [, b]) => b - a);
  return parts.map(([name, own]) => `${name} ${Math.round((100 * own) / onCard)} %`).join(', ');
}

const rows = MODELS.flatMap((model) =>
  BATCHES.flatMap((batch) =>
    CARDS.map((card) => {
      const result = step(model, batch, card);
      const { held, work, bytes, calls, dispatch, total, tokens } = result;
      const plain = memory('tensorflow', model, batch, card);
      return [
        ...[model.name, `${batch.rows} × ${batch.length}`, card.name],
        held.fits ? held.text : 'does not fit',
        plain.fits ? plain.text : 'does not fit',
        ((work.products + work.attention) / 1e3).toFixed(1),
        (bytes / 1e9).toFixed(0),
        `${calls.ops}, ${calls.launches} in ${milliseconds(dispatch)} ms`,
        ...(held.fits
          ? [`${milliseconds(total)} ms`, `${(tokens / total / 1e3).toFixed(1)}k`, binding(result)]
          : ['', '', '']),
      ];
    }),
  ),
);
const columns = [
  'model',
  'rows',
  'card',
  'memory',
  'with TensorFlow',
  'TFLOP',
  'GB',
  'ops, launches',
  'step',
  'tokens/s',
  'what binds',
];
process.stdout.write(table(columns, rows));

/** The tokens of a pass that jobs share, by the rates that a worker would measure, and the seconds that it takes. */
const passRows = CARDS.map((card) => {
  const rates = {
    matmul_gflops: 1e3 * card.teraflops * card.products,
    attention_gflops: 1e3 * card.teraflops * REACHED.attention,
    weight_gbytes: 1e3 * card.terabytes * REACHED.passes,
    pass_gbytes: 1e3 * card.terabytes * REACHED.passes,
    layer_overhead_ms: 1e3 * dispatchSeconds({ ops: OPS.ofLayer, launches: LAUNCHES.ofLayer }),
  };
  const tokens = planning.passTokensOf({
    engine: { kind: 'cuda', card: null, self_test: null },
    rates: { float32: rates, bfloat16: rates },
  });
  const secondsOf = MODELS.map(
    (model) => `${milliseconds(step(model, { rows: tokens / 512, length: 512 }, card).total)} ms`,
  );
  return [card.name, String(tokens), ...secondsOf];
});
process.stdout.write(`\n${table(['card', 'tokens of a shared pass', ...MODELS.map(({ name }) => name)], passRows)}`);

/** @param {number} depth of a product that is cut in pieces, as PieceDepth of native/ops/grouped_product/grouped_product_cuda.cc has it */
function piecesOf(depth) {
  const eighth = Math.ceil(depth / 8 / 32) * 32;
  return Math.ceil(depth / Math.max(1024, eighth));
}

/** @typedef {'separate' | 'both' | 'depth'} LoraForm apart from the frozen products, or a part of them as GPU_LORA_PADDING has it */

/**
 * Bytes that LoRA's own products at a group of linear layers read and write in a step, by the shapes of their operands: those of a
 * token, and those whatever the tokens. What a frozen product reads or writes anyway is not among them.
 *
 * @param {{ inputs: number; outputs: number; ranks: number; numbers: number; tokens: number }} group `numbers`: of its parameters
 * @param {LoraForm} form
 */
function loraTraffic({ inputs, outputs, ranks, numbers, tokens }, form) {
  const { bfloat16, float32 } = BYTES;
  const low = bfloat16 * ranks;
  /** @param {number} depth */
  const lowProduct = (depth) => bfloat16 * depth + 2 * piecesOf(depth) * float32 * ranks + low;
  /** @param {number} width */
  const addition = (width) => low + 2 * bfloat16 * width;
  /** A product with a longer depth or width, and `low` copied next to the rows or from there. */
  const copied = 3 * low;
  const narrow = Math.min(inputs, outputs);
  const passes = {
    separate: {
      low: lowProduct(inputs) + lowProduct(outputs),
      additions: addition(inputs) + addition(outputs),
      copies: 0,
    },
    both: { low: lowProduct(narrow), additions: addition(narrow), copies: bfloat16 * narrow + 2 * copied },
    depth: {
      low: lowProduct(inputs) + lowProduct(outputs),
      additions: addition(narrow),
      copies: bfloat16 * narrow + copied,
    },
  }[form];
  const gradients = bfloat16 * (inputs + outputs) + 2 * low;
  // Matrices are made in each direction, and read; gradients are made in pieces over the tokens, which are summed.
  const matrices = 2 * (float32 + 2 * bfloat16) * numbers;
  const pieces = (2 * piecesOf(tokens) + 1) * float32 * numbers;
  return { ...passes, gradients, fixed: matrices + pieces };
}

/**
 * @param {Pick<(typeof MODELS)[number], 'architecture'>} model
 * @param {{ rank: number, tokens: number, form: LoraForm }} options
 * @returns the gigabytes of all layers
 */
function loraGigabytes({ architecture }, { rank, tokens, form }) {
  const sums = { low: 0, additions: 0, copies: 0, gradients: 0, fixed: 0 };
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    for (const layers of modelFolder.linearGroups(architecture, layer)) {
      const outputs = layers.reduce((sum, one) => sum + one.outFeatures, 0);
      const inputs = layers[0]?.inFeatures ?? 0;
      const ranks = rank * layers.length;
      const { fixed, ...passes } = loraTraffic(
        { inputs, outputs, ranks, numbers: ranks * inputs + rank * outputs, tokens },
        form,
      );
      for (const [name, bytes] of Object.entries(passes))
        sums[/** @type {keyof typeof passes} */ (name)] += tokens * bytes;
      sums.fixed += fixed;
    }
  }
  return Object.values(sums).map((bytes) => bytes / 1e9);
}

/** @param {number[]} numbers */
const total = (numbers) => numbers.reduce((sum, own) => sum + own, 0);

/** @type {Record<LoraForm, string>} */
const LORA_FORMS = {
  separate: 'next to the frozen products',
  both: 'part of the frozen products',
  depth: 'part where the depth is longer',
};
const loraRows = /** @type {[LoraForm, string][]} */ (Object.entries(LORA_FORMS)).map(([form, name]) => {
  const gigabytesOf = loraGigabytes(LARGEST, { rank: 16, tokens: 8192, form });
  const all = total(gigabytesOf);
  const milliseconds = all / (H100.terabytes * REACHED.passes);
  return [name, ...[...gigabytesOf, all].map((own) => own.toFixed(1)), milliseconds.toFixed(0)];
});
const loraColumns = [
  ...['LoRA, 8B, 4 × 2048, r = 16', 'low products', 'additions', 'copies', 'gradients', 'matrices, pieces'],
  ...['GB a step', 'ms on an H100'],
];
process.stdout.write(`\n${table(loraColumns, loraRows)}`);

/**
 * A shape of a step, and what others publish for it.
 *
 * @typedef {object} PublishedStep
 * @property {typeof H100} card
 * @property {number} rows
 * @property {number} length
 * @property {number} rank on every linear layer
 * @property {'none' | 'nf4'} quantization of the base
 * @property {LoraForm} [form] default: both
 * @property {import('./cards.mjs').PublishedRate | null} published
 */

/** Llama 3.1 8B, LoRA on every linear layer. @type {PublishedStep[]} */
const PUBLISHED_STEPS = [
  { ...{ card: H100, rows: 4, length: 2048, rank: 16, quantization: 'none' }, published: null },
  { ...{ card: H100, rows: 4, length: 2048, rank: 16, quantization: 'nf4' }, published: null },
  { ...{ card: H100, rows: 4, length: 2048, rank: 16, quantization: 'nf4', form: 'depth' }, published: null },
  { ...{ card: H100, rows: 4, length: 2048, rank: 16, quantization: 'nf4', form: 'separate' }, published: null },
  publishedStep(H100, 16, 'none', PUBLISHED_RATES.automodel),
  publishedStep(RTX_4090, 8, 'none', PUBLISHED_RATES.torchtune),
  publishedStep(RTX_4090, 8, 'nf4', PUBLISHED_RATES.torchtuneNf4),
];

/**
 * @param {typeof H100} card
 * @param {number} rank
 * @param {PublishedStep['quantization']} quantization
 * @param {import('./cards.mjs').PublishedRate} published whose rows and length are taken
 * @returns {PublishedStep}
 */
function publishedStep(card, rank, quantization, published) {
  const { rows, length } = published;
  return { card, rows, length, rank, quantization, published };
}

/** Bytes that are read and written to decode a number. */
const DECODING_BYTES = NF4_BYTES + BYTES.bfloat16;

/**
 * A step with nothing left out, in seconds by what is computed.
 *
 * @param {PublishedStep} shape
 */
function wholeStep({ card, rows, length, rank, quantization, form = 'both' }) {
  const model = /** @type {typeof LARGEST} */ ({
    ...LARGEST,
    ...modelFolder.withBaseQuantization(LARGEST, quantization),
    architecture: LARGEST.architecture,
  });
  const { architecture, modules } = model;
  const [tokens, labels] = [rows * length, rows * (length - 1)];
  const held = memory('cuda', model, { rows, length }, card, rank);
  const targets = modules.map((module) => ({ ...module, rank, scale: 2 }));
  const adapters = form === 'separate' ? /** @type {const} */ ('separate') : /** @type {const} */ ('joint');
  const work = { architecture, modules, targets, recomputedLayers: held.recomputedLayers, adapters };
  const load = {
    tokensPerStep: tokens,
    labelsPerStep: labels,
    squaresPerStep: rows * length ** 2,
    microBatchesPerStep: 1,
  };
  const all = planning.stepWork(work, load);
  const frozen = planning.stepWork({ ...work, targets: targets.map((target) => ({ ...target, rank: 0 })) }, load);
  const scatter = scatterWork(architecture, { tokens, labels }, card);
  const bandwidth = card.terabytes * 1e12 * REACHED.passes;
  const again = 1 + held.recomputedLayers / architecture.layerCount;
  const linearNumbers = modules.reduce((sum, { in_features, out_features }) => sum + in_features * out_features, 0);
  const pairs = (rows * length ** 2 * architecture.layerCount * architecture.headCount) / 2;
  const cycles = attentionCycles(architecture.headDim, card);
  // Of the layers that are computed again, two of nine products.
  const attentionAgain = 1 + (2 / 9) * (again - 1);
  const passBytes =
    all.traffic * 1e9 - tokens * planning.adapterTraffic(work) + 4 * 2 * labels * architecture.vocabSize;
  const calls = stepCalls(architecture.layerCount, held.recomputedLayers);
  const seconds = {
    frozen: (frozen.products * 1e9) / (card.teraflops * 1e12 * card.products),
    attention:
      (attentionAgain * pairs * cycles) / (card.multiprocessors * card.gigahertz * 1e9 * REACHED_OF_ATTENTION_BOUND),
    lora: (total(loraGigabytes(model, { rank, tokens, form })) * 1e9 * (2 + again)) / 3 / bandwidth,
    decoding: quantization === 'none' ? 0 : ((1 + again) * DECODING_BYTES * linearNumbers) / bandwidth,
    passes: passBytes / bandwidth,
    scatter: scatter.bytes / bandwidth + scatter.linking,
  };
  const onCard = total(Object.values(seconds));
  const dispatch = dispatchSeconds(calls);
  return { held, tokens, seconds, dispatch, total: Math.max(onCard, dispatch) };
}

const wholeRows = PUBLISHED_STEPS.map((shape) => {
  const { held, tokens, seconds, dispatch, total: all } = wholeStep(shape);
  const { card, rows: count, length, rank, quantization, form = 'both', published } = shape;
  const weights = quantization === 'none' ? 'bfloat16' : 'NF4';
  return [
    ...[
      form === 'both' ? weights : `${weights}, LoRA ${LORA_FORMS[form]}`,
      card.name,
      `${count} × ${length}`,
      rank,
      held.text,
    ],
    ...Object.values(seconds).map((own) => (own * 1e3).toFixed(1)),
    ...[milliseconds(dispatch), milliseconds(all), (tokens / all).toFixed(0)],
    published === null ? '' : `${published.tokensPerSecond} (${published.by})`,
  ];
});
const wholeColumns = [
  ...[
    '8B',
    'card',
    'rows',
    'rank',
    'memory',
    'frozen products, ms',
    'attention',
    'LoRA',
    'decoding',
    'other passes',
    'scatter',
  ],
  ...['calls, at the same time', 'step, ms', 'tokens/s', 'published'],
];
process.stdout.write(`\n${table(wholeColumns, wholeRows)}`);

/**
 * A step of generation in which each text gets a token. It reads all weights but the embedding, which is also the head of small models,
 * and the keys and values of all texts.
 *
 * @param {(typeof MODELS)[number]} model
 * @param {(typeof TEXTS)[number]} batch
 * @param {(typeof CARDS)[number]} card
 */
function generationStep({ architecture, parameterCount }, { texts, length }, card) {
  const { layerCount, keyValueHeadCount, headDim, vocabSize, hiddenSize, tiedHead } = architecture;
  const weights = 2 * (parameterCount - (tiedHead ? 0 : vocabSize * hiddenSize));
  const cache = texts * length * layerCount * 2 * keyValueHeadCount * headDim * 2;
  /** @param {typeof GENERATION_OPS} counts */
  const of = ({ ofLayer, outsideLayers }) => ofLayer * layerCount + outsideLayers;
  const calls = { ops: of(GENERATION_OPS), launches: of(GENERATION_LAUNCHES) };
  const onCard = (weights + cache) / (card.terabytes * 1e12 * REACHED.passes);
  const dispatch = dispatchSeconds(calls);
  return { weights, cache, calls, onCard, dispatch, total: Math.max(onCard, dispatch) };
}

const tokenRows = MODELS.flatMap((model) =>
  TEXTS.flatMap((batch) =>
    CARDS.filter((card) => 2 * model.parameterCount < card.memory).map((card) => {
      const { weights, cache, calls, onCard, dispatch, total } = generationStep(model, batch, card);
      const binds = dispatch > onCard ? `dispatch (the card reads for ${milliseconds(onCard)} ms)` : 'reading';
      return [
        ...[
          model.name,
          `${batch.texts} × ${batch.length}`,
          card.name,
          (weights / 1e9).toFixed(1),
          (cache / 1e9).toFixed(1),
        ],
        ...[`${calls.ops}, ${calls.launches} in ${milliseconds(dispatch)} ms`, `${milliseconds(total)} ms`],
        ...[(batch.texts / total).toFixed(0), binds],
      ];
    }),
  ),
);
const tokenColumns = [
  'model',
  'texts',
  'card',
  'GB of weights',
  'GB of cache',
  'ops, launches',
  'step',
  'tokens/s',
  'what binds',
];
process.stdout.write(`\n${table(tokenColumns, tokenRows)}`);
process.stdout.write(`\n${attentionTables()}`);
process.stdout.write(`\n${mixtureTables()}`);
