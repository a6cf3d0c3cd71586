// node bench/gpu-arithmetic.mjs
// What a training step and a step of generation take of a GPU, computed and not measured: operations and bytes are the estimate's
// own (packages/planning), rates are those that NVIDIA publishes, and the shares of them that a step reaches are assumed.
import * as modelFolder from '../packages/model-folder/dist/index.js';
import * as planning from '../packages/planning/dist/index.js';
import { memoryOnCard, modelOf, PUBLISHED_SHAPES } from '../scripts/docs/model-on-card.mjs';
import { attentionTables } from './attention-arithmetic.mjs';
import { gigabytes, table } from './tables.mjs';

const MODELS = [
  modelOf(modelFolder, '135M', PUBLISHED_SHAPES['SmolLM2 135M']),
  modelOf(modelFolder, '1B', PUBLISHED_SHAPES['Llama 3.2 1B']),
  modelOf(modelFolder, '8B', PUBLISHED_SHAPES['Llama 3.1 8B']),
];
const BATCHES = [
  { rows: 4, length: 512 },
  { rows: 4, length: 2048 },
  { rows: 1, length: 8192 },
];
/** Dense bfloat16 products with float32 sums, bandwidth, and memory as the driver reports it. */
const H100 = { name: 'H100 SXM', teraflops: 989, terabytes: 3.35, memory: 81_559 * 2 ** 20 };
const CARDS = [
  H100,
  { name: 'RTX 4090', teraflops: 165, terabytes: 1.01, memory: 24_564 * 2 ** 20 },
  { name: 'L4', teraflops: 121, terabytes: 0.3, memory: 23_034 * 2 ** 20 },
];
const RANK = 8;
/** Shares of the published rates. */
const REACHED = { products: 0.6, attention: 0.25, passes: 0.7 };
/** The numbers of ops of a pass with one adapter, as packages/training/src/step-ops.test.ts bounds them. */
const OPS = { ofLayer: 19, recomputed: 29, beside: 21 };
/** The same of a step of generation. */
const GENERATION_OPS = { ofLayer: 12, beside: 12 };
const TEXTS = [
  { texts: 1, length: 2048 },
  { texts: 16, length: 2048 },
];
/** The time of calling one op from JavaScript. It runs beside the GPU's work, so only the longer of the two counts. */
const SECONDS_PER_OP = 13.6e-6;

/**
 * The memory that the estimate expects.
 *
 * @param {'cuda' | 'tensorflow'} kind
 * @param {(typeof MODELS)[number]} model
 * @param {(typeof BATCHES)[number]} batch
 * @param {(typeof CARDS)[number]} card
 */
function memory(kind, model, batch, card) {
  const options = { kind, cardBytes: card.memory, rank: RANK, ...batch };
  const { peakOf, availableBytes } = memoryOnCard(planning, model, options);
  const { layerCount } = model.architecture;
  const recomputedLayers = planning.fewestRecomputed(layerCount, (count) => peakOf(count) <= availableBytes);
  const peak = peakOf(recomputedLayers);
  const again = recomputedLayers === 0 ? '' : `, ${recomputedLayers} of ${layerCount} layers again`;
  return { recomputedLayers, peak, fits: peak <= availableBytes, text: `${gigabytes(peak)}${again}` };
}

/**
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
  const bytes = work.passes * 1e9 + logitBytes;
  const seconds = {
    products: (work.products * 1e9) / (card.teraflops * 1e12 * REACHED.products),
    attention: (work.attention * 1e9) / (card.teraflops * 1e12 * REACHED.attention),
    passes: bytes / (card.terabytes * 1e12 * REACHED.passes),
  };
  const ops = OPS.ofLayer * architecture.layerCount + (OPS.recomputed - OPS.ofLayer) * recomputedLayers + OPS.beside;
  const onCard = seconds.products + seconds.attention + seconds.passes;
  const dispatch = ops * SECONDS_PER_OP;
  return {
    ...{ tokens, held, ops, bytes, seconds, onCard, dispatch, work },
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
      const { held, work, bytes, ops, dispatch, total, tokens } = result;
      const plain = memory('tensorflow', model, batch, card);
      return [
        ...[model.name, `${batch.rows} × ${batch.length}`, card.name],
        held.fits ? held.text : 'does not fit',
        plain.fits ? plain.text : 'does not fit',
        ((work.products + work.attention) / 1e3).toFixed(1),
        (bytes / 1e9).toFixed(0),
        `${ops} in ${milliseconds(dispatch)} ms`,
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
  'ops',
  'step',
  'tokens/s',
  'what binds',
];
process.stdout.write(table(columns, rows));

/** The tokens of a pass that jobs share, by the rates that a worker would measure, and the seconds that it takes. */
const passRows = CARDS.map((card) => {
  const rates = {
    matmul_gflops: 1e3 * card.teraflops * REACHED.products,
    attention_gflops: 1e3 * card.teraflops * REACHED.attention,
    weight_gbytes: 1e3 * card.terabytes * REACHED.passes,
    pass_gbytes: 1e3 * card.terabytes * REACHED.passes,
    layer_overhead_ms: 1e3 * OPS.ofLayer * SECONDS_PER_OP,
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

const BYTES = { bfloat16: 2, float32: 4 };
const LORA = { model: MODELS.at(-1), rank: 16, tokens: 8192 };

/** @param {number} depth of a product that is cut in pieces, as PieceDepth of native/cuda/host/grouped_product.cc has it */
function piecesOf(depth) {
  const eighth = Math.ceil(depth / 8 / 32) * 32;
  return Math.ceil(depth / Math.max(1024, eighth));
}

/**
 * Bytes that LoRA's own products at a group of linear layers read and write in a step, by the shapes of their operands: those of a
 * token, and those whatever the tokens. What a frozen product reads or writes anyway is not among them.
 *
 * @param {{ inputs: number; outputs: number; ranks: number; numbers: number }} group `numbers`: of its parameters
 * @param {boolean} isJoint whether the frozen weights have a margin
 */
function loraTraffic({ inputs, outputs, ranks, numbers }, isJoint) {
  const { bfloat16, float32 } = BYTES;
  const low = bfloat16 * ranks;
  /** @param {number} depth */
  const lowProduct = (depth) => bfloat16 * depth + 2 * piecesOf(depth) * float32 * ranks + low;
  /** @param {number} width */
  const addition = (width) => low + 2 * bfloat16 * width;
  /** A product with a longer depth or width, and `low` copied beside the rows or from there. */
  const copied = 3 * low;
  const [narrow, wide] = [Math.min(inputs, outputs), Math.max(inputs, outputs)];
  const passes = isJoint
    ? {
        low: lowProduct(narrow),
        additions: addition(narrow),
        copies: bfloat16 * narrow + 2 * copied,
        gradients: bfloat16 * (narrow + wide) + 2 * low,
      }
    : {
        low: lowProduct(inputs) + lowProduct(outputs),
        additions: addition(inputs) + addition(outputs),
        copies: 0,
        gradients: bfloat16 * (inputs + outputs) + 2 * low,
      };
  // Matrices are made in each direction, and read; gradients are made in pieces over the tokens, which are summed.
  const matrices = 2 * (float32 + 2 * bfloat16) * numbers;
  const pieces = (2 * piecesOf(LORA.tokens) + 1) * float32 * numbers;
  return { ...passes, fixed: matrices + pieces };
}

/** @param {boolean} isJoint @returns the gigabytes of all layers */
function loraGigabytes(isJoint) {
  const { model, rank, tokens } = /** @type {Required<typeof LORA> & { model: (typeof MODELS)[number] }} */ (LORA);
  const { architecture } = model;
  const sums = { low: 0, additions: 0, copies: 0, gradients: 0, fixed: 0 };
  for (let layer = 0; layer < architecture.layerCount; layer++) {
    for (const layers of modelFolder.linearGroups(architecture, layer)) {
      const outputs = layers.reduce((sum, one) => sum + one.outFeatures, 0);
      const inputs = layers[0]?.inFeatures ?? 0;
      const ranks = rank * layers.length;
      const { fixed, ...passes } = loraTraffic(
        { inputs, outputs, ranks, numbers: ranks * inputs + rank * outputs },
        isJoint,
      );
      for (const [name, bytes] of Object.entries(passes))
        sums[/** @type {keyof typeof passes} */ (name)] += tokens * bytes;
      sums.fixed += fixed;
    }
  }
  return Object.values(sums).map((bytes) => bytes / 1e9);
}

const loraRows = [false, true].map((isJoint) => {
  const gigabytesOf = loraGigabytes(isJoint);
  const all = gigabytesOf.reduce((sum, own) => sum + own, 0);
  const milliseconds = all / (H100.terabytes * REACHED.passes);
  return [
    isJoint ? 'part of the frozen products' : 'beside the frozen products',
    ...[...gigabytesOf, all].map((own) => own.toFixed(1)),
    milliseconds.toFixed(0),
  ];
});
const loraColumns = [
  ...['LoRA, 8B, 4 × 2048, r = 16', 'low products', 'additions', 'copies', 'gradients', 'matrices, pieces'],
  ...['GB a step', 'ms on an H100'],
];
process.stdout.write(`\n${table(loraColumns, loraRows)}`);

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
  const ops = GENERATION_OPS.ofLayer * layerCount + GENERATION_OPS.beside;
  const onCard = (weights + cache) / (card.terabytes * 1e12 * REACHED.passes);
  const dispatch = ops * SECONDS_PER_OP;
  return { weights, cache, ops, onCard, dispatch, total: Math.max(onCard, dispatch) };
}

const tokenRows = MODELS.flatMap((model) =>
  TEXTS.flatMap((batch) =>
    CARDS.filter((card) => 2 * model.parameterCount < card.memory).map((card) => {
      const { weights, cache, ops, onCard, dispatch, total } = generationStep(model, batch, card);
      const binds = dispatch > onCard ? `dispatch (the card reads for ${milliseconds(onCard)} ms)` : 'reading';
      return [
        ...[
          model.name,
          `${batch.texts} × ${batch.length}`,
          card.name,
          (weights / 1e9).toFixed(1),
          (cache / 1e9).toFixed(1),
        ],
        ...[`${ops} in ${milliseconds(dispatch)} ms`, `${milliseconds(total)} ms`],
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
  'ops',
  'step',
  'tokens/s',
  'what binds',
];
process.stdout.write(`\n${table(tokenColumns, tokenRows)}`);
process.stdout.write(`\n${attentionTables()}`);
