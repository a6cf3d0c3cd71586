import limits from '../emulated/cuda-kernel-limits.json' with { type: 'json' };
import { H100 } from './cards.mjs';
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
