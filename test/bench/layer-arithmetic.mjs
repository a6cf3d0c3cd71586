import * as modelFolder from '../../packages/model-folder/dist/index.js';
import * as planning from '../../packages/planning/dist/index.js';
import { modelOf } from '../../scripts/docs/model-on-card.mjs';
import limits from '../emulated/cuda-kernel-limits.json' with { type: 'json' };
import { BYTES, H100, NF4_BYTES, REACHED } from './cards.mjs';
import { table } from './tables.mjs';

// What the kernels of attention in bfloat16 take of a multiprocessor, by the instructions of their loops
// (test/emulated/compiled-kernels.test.ts counts them in the machine code), beside FlashAttention 2. Computed, not measured.

/**
 * Cycles of a multiprocessor for a pair of a query and a key, beneath which no kernel comes.
 *
 * @typedef {{ memory: number, products: number }} Cycles
 */

/** Multiply-adds of a multiprocessor in a cycle: an H100's by `mma.sync` are assumed to be 62 % of those by `wgmma`. */
const CARDS = [
  { name: 'A100', multiplyAdds: 1024 },
  { name: 'H100', multiplyAdds: H100.multiplyAdds },
];
const SHARED_BYTES_OF_CYCLE = 128;
const SCHEDULERS = 4;
/** One `mma.m16n8k16`. */
const MULTIPLY_ADDS_OF_MMA = 16 * 8 * 16;
/** One `ldmatrix.x4` of a warp. */
const BYTES_OF_LDMATRIX = 512;

/**
 * Our kernels: products for each pair, the rows that a block keeps, and numbers in bfloat16 that its warps exchange for each
 * pair (packages/tensor/native/ops/attention/attention_shape.h).
 */
const KERNELS = [
  { title: 'forward', pass: 'forward', name: 'AttentionBFloat16', products: 2, rows: 128, exchanged: 0 },
  {
    ...{ title: 'by queries', pass: 'backward', name: 'AttentionQueryGradientBFloat16' },
    ...{ products: 3, rows: 64, exchanged: 1 },
  },
  {
    ...{ title: 'by keys and values', pass: 'backward', name: 'AttentionKeyAndValueGradientBFloat16' },
    ...{ products: 4, rows: 128, exchanged: 2 },
  },
];

/**
 * FlashAttention 2's tiles on sm_80 and sm_90, without dropout (csrc/flash_attn/src/flash_{fwd,bwd}_launch_template.h). `layouts`: of
 * the warps along the rows of scores, of dK and dV, and of dQ.
 */
const FLASH = [
  { headSize: 64, forward: { queries: 128, keys: 128 }, backward: { queries: 128, keys: 128, layouts: [4, 4, 4] } },
  { headSize: 128, forward: { queries: 128, keys: 64 }, backward: { queries: 64, keys: 128, layouts: [2, 4, 2] } },
];
const FLASH_WARPS = { forward: 4, backward: 8 };

/** Bytes of shared memory for a pair that a kernel writes to have rows of two kinds pass by. @param {number} headSize @param {number} rows */
const tileBytes = (headSize, rows) => (2 * 2 * headSize) / rows;

/**
 * Bytes that warps load for a product [rows, columns] with a sum of `depth`, of both operands, with `along` warps along its rows.
 *
 * @param {[number, number, number]} size
 * @param {number} warps
 * @param {number} along
 */
function fragmentBytes([rows, columns, depth], warps, along) {
  const left = (rows / along / 16) * (depth / 16);
  const right = (columns / (warps / along) / 16) * (depth / 16);
  return warps * (left + right) * BYTES_OF_LDMATRIX;
}

/** @param {(typeof FLASH)[number]} flash @returns {number} shared memory's bytes for a pair in the forward pass */
function flashForwardBytes({ headSize, forward: { queries, keys } }) {
  const warps = FLASH_WARPS.forward;
  // Weights stay in registers, as the left operand of their product with values.
  const values = warps * (headSize / 16) * (keys / 16) * BYTES_OF_LDMATRIX;
  const scores = fragmentBytes([queries, keys, headSize], warps, warps);
  return (scores + values) / (queries * keys) + tileBytes(headSize, queries);
}

/** @param {(typeof FLASH)[number]} flash @returns {number} the same in the backward pass */
function flashBackwardBytes({ headSize, backward: { queries, keys, layouts } }) {
  const warps = FLASH_WARPS.backward;
  const [ofScores = 1, ofKeys = 1, ofQueries = 1] = layouts;
  const fragments =
    2 * fragmentBytes([queries, keys, headSize], warps, ofScores) +
    2 * fragmentBytes([keys, headSize, queries], warps, ofKeys) +
    fragmentBytes([queries, headSize, keys], warps, ofQueries);
  // Weights and gradients by scores are written as bfloat16.
  return fragments / (queries * keys) + 2 * 2 + tileBytes(headSize, keys);
}

/** @param {number} headSize @param {(typeof KERNELS)[number]} kernel */
function ourKernel(headSize, { name, products, rows, exchanged }) {
  const kernels = /** @type {Record<string, { loop?: import('../emulated/kernel-loops.js').KernelLoop }>} */ (limits);
  const loop = kernels[`${name}_${headSize}`]?.loop;
  if (loop === undefined) throw new Error(`${name}_${headSize} has no counts of its loop`);
  const pairs = (loop.mma * MULTIPLY_ADDS_OF_MMA) / (products * headSize);
  const bytes = (loop.ldmatrix * BYTES_OF_LDMATRIX) / pairs + 2 * exchanged + tileBytes(headSize, rows);
  return { ...loop, bytes, slots: loop.instructions / pairs / SCHEDULERS };
}

/** @param {number} bytes @param {number} products @param {number} headSize @param {{ multiplyAdds: number }} card */
const cyclesOf = (bytes, products, headSize, card) =>
  Math.max(bytes / SHARED_BYTES_OF_CYCLE, (products * headSize) / card.multiplyAdds);

/**
 * Cycles of a multiprocessor for a pair of a query and a key, forward and backward, beneath which our kernels do not come.
 *
 * @param {number} headSize 64 or 128
 * @param {{ multiplyAdds: number }} card `multiplyAdds`: of a multiprocessor in a cycle
 */
export function attentionCycles(headSize, card) {
  return KERNELS.map((kernel) => {
    const { bytes, slots } = ourKernel(headSize, kernel);
    return Math.max(cyclesOf(bytes, kernel.products, headSize, card), slots);
  }).reduce((sum, own) => sum + own, 0);
}

/** @returns {string} the kernels' loops, and their times relative to FlashAttention 2's */
export function attentionTables() {
  const loops = FLASH.flatMap(({ headSize }) =>
    KERNELS.map((kernel) => {
      const { mma, ldmatrix, instructions, bytes, slots } = ourKernel(headSize, kernel);
      const [a100, h100] = CARDS.map((card) => ((kernel.products * headSize) / card.multiplyAdds).toFixed(2));
      const shared = (bytes / SHARED_BYTES_OF_CYCLE).toFixed(2);
      return [kernel.title, headSize, mma, ldmatrix, instructions, shared, a100 ?? '', h100 ?? '', slots.toFixed(2)];
    }),
  );
  const head = ['kernel', 'head', 'mma', 'ldmatrix', 'instructions'];
  const cycles = ['shared memory', 'products, A100', 'products, H100', 'issue'];
  const passes = FLASH.flatMap((flash) =>
    ['forward', 'backward'].map((pass) => {
      const ratios = CARDS.map((card) => {
        const ours = KERNELS.filter((kernel) => kernel.pass === pass)
          .map((kernel) => cyclesOf(ourKernel(flash.headSize, kernel).bytes, kernel.products, flash.headSize, card))
          .reduce((sum, own) => sum + own, 0);
        const theirs =
          pass === 'forward'
            ? cyclesOf(flashForwardBytes(flash), 2, flash.headSize, card)
            : cyclesOf(flashBackwardBytes(flash), 5, flash.headSize, card);
        return [ours.toFixed(2), theirs.toFixed(2), (ours / theirs).toFixed(2)];
      });
      return [pass, flash.headSize, ...ratios.flat()];
    }),
  );
  const ofCards = CARDS.flatMap(({ name }) => [`${name}: ours`, 'FlashAttention 2', 'ratio']);
  return `${table([...head, ...cycles], loops)}\n${table(['pass', 'head', ...ofCards], passes)}`;
}

// What a training step of a mixture of experts takes of a GPU, with experts in bfloat16 and in 4 bits: as one expert after the other
// was decoded and multiplied, and as many in a launch are. Computed, not measured.

/** Qwen3-30B-A3B. */
const SHAPE = {
  ...{ hidden: 2048, intermediate: 6144, layers: 48, heads: 32, keyValue: 4, headDim: 128 },
  ...{ vocab: 151_936, tiedHead: false },
};
const EXPERTS = { count: 128, perToken: 8, intermediateSize: 768 };
const BATCH = { rows: 4, length: 2048 };
const RANK = 8;

/** Grouped products are by `mma.sync`, which reaches 62 % of `wgmma`. */
const REACHED_BY_GROUPS = H100.products * 0.62;
const BYTES_PER_SECOND = H100.terabytes * 1e12 * REACHED.passes;

const { bfloat16: BFLOAT16, float32: FLOAT32 } = BYTES;

/** Numbers of a result that a block of threads computes. */
const TILE = 128;
/** Groups in the parameters of a launch, and what is decoded at a time: native/ops/grouped_product/grouped_product_shape.h, packed-matrix.ts. */
const GROUPS_OF_LAUNCH = 42;
const MOST_DECODED_BYTES = 2 ** 28;

const TOKENS = BATCH.rows * BATCH.length;
/** The rows of each expert, where the router spreads the tokens evenly. */
const ROWS_OF_EXPERT = (TOKENS * EXPERTS.perToken) / EXPERTS.count;

/** The products of an expert in a step: forward, and by the input backward. */
const PRODUCTS = [
  { columns: 2 * EXPERTS.intermediateSize, depth: SHAPE.hidden },
  { columns: SHAPE.hidden, depth: EXPERTS.intermediateSize },
  { columns: EXPERTS.intermediateSize, depth: SHAPE.hidden },
  { columns: SHAPE.hidden, depth: 2 * EXPERTS.intermediateSize },
];

/** @param {number} total @param {number} most @returns {number[]} as few parts as fit, of about the same size */
function evenParts(total, most) {
  const parts = Math.ceil(total / most);
  const each = Math.ceil(total / parts);
  return Array.from({ length: parts }, (_, i) => Math.min(each, total - i * each));
}

/**
 * Seconds of one launch: its blocks are spread over the multiprocessors, each of which computes one after the other, and operands are
 * read at least once.
 *
 * @param {(typeof PRODUCTS)[number]} product
 * @param {number} experts
 */
function launchSeconds({ columns, depth }, experts) {
  const blocks = experts * Math.ceil(ROWS_OF_EXPERT / TILE) * Math.ceil(columns / TILE);
  const ofBlock = (2 * TILE * TILE * depth * H100.multiprocessors) / (H100.teraflops * 1e12 * REACHED_BY_GROUPS);
  const numbers = experts * (columns * depth + ROWS_OF_EXPERT * (columns + depth));
  return Math.max(Math.ceil(blocks / H100.multiprocessors) * ofBlock, (BFLOAT16 * numbers) / BYTES_PER_SECOND);
}

/** The count of experts in each launch. @typedef {(product: (typeof PRODUCTS)[number]) => number[]} Launches */

/** @type {Launches} */
const oneByOne = () => evenParts(EXPERTS.count, 1);
/** The experts of launches as large as a table allows, the rest in the last. @type {Launches} */
const ofTables = () => {
  const whole = Math.floor(EXPERTS.count / GROUPS_OF_LAUNCH);
  return [...new Array(whole).fill(GROUPS_OF_LAUNCH), EXPERTS.count - whole * GROUPS_OF_LAUNCH];
};
/** The experts of launches that decode as many as memory allows. @type {Launches} */
const decoded = ({ columns, depth }) =>
  evenParts(EXPERTS.count, Math.min(GROUPS_OF_LAUNCH, Math.floor(MOST_DECODED_BYTES / (BFLOAT16 * columns * depth))));

/** Seconds and launches of the experts' products in all layers. @param {Launches} launchesOf */
function products(launchesOf) {
  const ofLayer = PRODUCTS.flatMap((product) => launchesOf(product).map((experts) => launchSeconds(product, experts)));
  return {
    seconds: SHAPE.layers * ofLayer.reduce((sum, seconds) => sum + seconds, 0),
    launches: SHAPE.layers * ofLayer.length,
  };
}

/** Bytes of decoding all experts of all layers in each direction: read in 4 bits, and written. */
function decodingBytes() {
  const numbers = PRODUCTS.reduce((sum, { columns, depth }) => sum + columns * depth, 0);
  return SHAPE.layers * EXPERTS.count * numbers * (NF4_BYTES + BFLOAT16);
}

/**
 * Bytes that the sums of each token's rows read and write in a step, forward and backward, by the shapes of their operands. Of plain
 * ops: the rows are gathered, split by their place in the sum, cast to float32 and added one after the other.
 *
 * @param {boolean} isFused
 */
function sumBytes(isFused) {
  const { perToken } = EXPERTS;
  const numbers = TOKENS * perToken * SHAPE.hidden;
  const ofPlaces = isFused ? FLOAT32 * TOKENS * perToken : 0;
  const plain = 4 * BFLOAT16 + (BFLOAT16 + FLOAT32) + (3 * FLOAT32 * (perToken - 1)) / perToken;
  const last = (isFused ? BFLOAT16 : FLOAT32 + BFLOAT16) / perToken;
  return 2 * SHAPE.layers * (numbers * ((isFused ? BFLOAT16 : plain) + last) + ofPlaces);
}

/** Seconds of what is not the experts' own products or sums: linear layers, attention, the head, passes. */
function otherSeconds() {
  const dense = modelOf(modelFolder, 'a mixture', SHAPE);
  const experts = {
    ...{ ...EXPERTS, layers: new Array(SHAPE.layers).fill(true), renormalized: true, shared: null },
    files: /** @type {const} */ ('each'),
  };
  const architecture = { ...dense.architecture, experts };
  const linears = experts.layers.flatMap((_, layer) => modelFolder.linearGroups(architecture, layer).flat());
  const modules = linears.map(({ name, inFeatures, outFeatures }) => {
    return { name, in_features: inFeatures, out_features: outFeatures };
  });
  const targets = modules.map((module) => ({ ...module, rank: RANK, scale: 2 }));
  const labels = TOKENS - BATCH.rows;
  const work = planning.stepWork(
    { architecture, modules, targets, recomputedLayers: 0, adapters: 'joint' },
    {
      ...{ tokensPerStep: TOKENS, labelsPerStep: labels, squaresPerStep: BATCH.rows * BATCH.length ** 2 },
      microBatchesPerStep: 1,
    },
  );
  const numbers = PRODUCTS.reduce((sum, { columns, depth }) => sum + columns * depth, 0);
  // In the last layer, only tokens that have a label pass the experts.
  const tokens = (SHAPE.layers - 1) * TOKENS + labels;
  const ofExperts = 2 * EXPERTS.perToken * numbers * tokens;
  const bytes = work.traffic * 1e9 + 4 * BFLOAT16 * labels * SHAPE.vocab - sumBytes(true);
  return (
    (work.products * 1e9 - ofExperts) / (H100.teraflops * 1e12 * H100.products) +
    (work.attention * 1e9) / (H100.teraflops * 1e12 * REACHED.attention) +
    bytes / BYTES_PER_SECOND
  );
}

/** @returns {string} the tables in Markdown */
export function mixtureTables() {
  const other = otherSeconds();
  const cases = [
    { name: 'bfloat16, sums by plain ops', launchesOf: ofTables, isPacked: false, isFused: false },
    { name: 'bfloat16', launchesOf: ofTables, isPacked: false, isFused: true },
    { name: '4 bits, an expert a launch, sums by plain ops', launchesOf: oneByOne, isPacked: true, isFused: false },
    { name: '4 bits', launchesOf: decoded, isPacked: true, isFused: true },
  ].map(({ name, launchesOf, isPacked, isFused }) => {
    const { seconds, launches } = products(launchesOf);
    const decoding = isPacked ? decodingBytes() / BYTES_PER_SECOND : 0;
    const sums = sumBytes(isFused);
    const total = seconds + decoding + sums / BYTES_PER_SECOND + other;
    return { name, launches: (isPacked ? 2 : 1) * launches, seconds, decoding, sums, total };
  });
  const best = cases.find(({ name }) => name === 'bfloat16')?.total ?? 0;
  const milliseconds = (/** @type {number} */ seconds) => `${(1e3 * seconds).toFixed(0)} ms`;
  const rows = cases.map(({ name, launches, seconds, decoding, sums, total }) => [
    ...[name, launches, milliseconds(seconds), milliseconds(decoding)],
    ...[`${(sums / 1e9).toFixed(0)} GB, ${milliseconds(sums / BYTES_PER_SECOND)}`, milliseconds(other)],
    ...[milliseconds(total), (total / best).toFixed(2)],
  ]);
  const columns = [
    ...['Qwen3-30B-A3B, 4 × 2048, H100 SXM', "launches of experts' products", "experts' products", 'decoding'],
    ...['sums of rows', 'the rest', 'step', 'of bfloat16'],
  ];
  return table(columns, rows);
}
