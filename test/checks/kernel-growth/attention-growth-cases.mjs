import * as t from '../../../packages/tensor/dist/index.js';
import { chooseKernels } from '../../../packages/tensor/dist/kernels/kernel-table.js';
import { seededTensor } from '../../../packages/tensor/dist/numeric-cases/numeric-case.js';
import { byTokens } from '../kernel-growth.mjs';

// Attention to all tokens before, in a window, with a cache, and linear: cases of growth-cases.mjs.

const kernels = chooseKernels('fused');

/** @typedef {import('../kernel-growth.mjs').GrowthCase} GrowthCase */
/** @typedef {import('../../../packages/tensor/dist/index.js').FloatDType} FloatDType */

/** @param {number} headDim @param {number | null} window */
const attentionOf = (headDim, window) => ({
  ...{ heads: 2, keyValueHeads: 1, headDim, window, softcap: null, scale: 1 / Math.sqrt(headDim) },
});

/** @param {readonly number[]} positions @param {number} headDim */
function anglesAt(positions, headDim) {
  const shape = [positions.length, headDim / 2];
  return { cosine: seededTensor(shape, 1), sine: seededTensor(shape, 2) };
}

/**
 * @param {FloatDType} dtype
 * @param {number} headDim
 * @param {number[]} lengths
 * @param {number | null} window
 */
function attend(dtype, headDim, lengths, window) {
  const settings = attentionOf(headDim, window);
  const angles = anglesAt([...Array(Math.max(...lengths)).keys()], headDim);
  const { heads, keyValueHeads } = settings;
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const attention = kernels.of(dtype).batchAttention({ lengths, heads, angles, windows: [window] });
  const qkv = seededTensor([tokens, (heads + 2 * keyValueHeads) * headDim], 3, dtype);
  const { saved } = attention.forward(qkv, settings, true);
  if (saved === null) throw new Error('attention saved nothing');
  attention.backward(seededTensor([tokens, heads * headDim], 4, dtype), saved, settings);
}

/** Attention of each token to those before it. */
const OF_ROWS = /^Attention(?!Rotate|Sums)/;

/** @param {FloatDType} dtype @param {number} headDim @returns {GrowthCase[]} */
export function attentionCases(dtype, headDim) {
  const name = `${dtype}, heads of ${headDim}`;
  return [
    { ...byTokens(`attention, ${name}`, 128, (tokens) => attend(dtype, headDim, [tokens], null)), squares: OF_ROWS },
    byTokens(`attention in a window, ${name}`, 384, (tokens) => attend(dtype, headDim, [tokens], 32)),
  ];
}

/** Many rows, of which each block finds its own. @param {FloatDType} dtype @returns {GrowthCase} */
export function shortRowsCase(dtype) {
  return byTokens(`attention of short rows, ${dtype}`, 128, (tokens) =>
    attend(dtype, 64, Array(tokens / 2).fill(2), null),
  );
}

/**
 * A prompt of each text, and then a token of each.
 *
 * @param {FloatDType} dtype
 * @param {number} headDim
 * @param {number} texts
 * @param {number} tokens of each prompt
 * @param {number | null} window
 */
function generate(dtype, headDim, texts, tokens, window) {
  const settings = attentionOf(headDim, window);
  const { heads, keyValueHeads } = settings;
  const pagesOfText = Math.ceil((tokens + 1) / t.PAGE_TOKENS);
  const layers = [{ keyValueHeads, headDim }];
  const cache = kernels.of(dtype).keyValueCache({ layers, pages: texts * pagesOfText, windows: [window], dtype });
  for (const [cached, added] of /** @type {const} */ ([
    [0, tokens],
    [tokens, 1],
  ])) {
    const steps = Array.from({ length: texts }, (_, text) => {
      const pages = Array.from({ length: pagesOfText }, (_, page) => text * pagesOfText + page);
      return { text, tokens: added, cached, isPrompt: cached === 0, pages };
    });
    const positions = steps.flatMap(() => Array.from({ length: added }, (_, i) => cached + i));
    const qkv = seededTensor([positions.length, (heads + 2 * keyValueHeads) * headDim], 5 + added, dtype);
    cache.step(steps, anglesAt(positions, headDim)).attend(qkv, 0, settings);
  }
  cache.dispose();
}

/** @param {FloatDType} dtype @param {number} headDim @returns {GrowthCase[]} */
export function cacheCases(dtype, headDim) {
  const name = `${dtype}, heads of ${headDim}`;
  return [
    {
      ...byTokens(`generation, ${name}`, 128, (tokens) => generate(dtype, headDim, 1, tokens, null)),
      squares: OF_ROWS,
    },
    byTokens(`generation in a window, ${name}`, 384, (tokens) => generate(dtype, headDim, 1, tokens, 32)),
  ];
}

/** @param {FloatDType} dtype @returns {GrowthCase} */
export function textsCase(dtype) {
  return {
    name: `generation of texts, ${dtype}`,
    doubled: 'texts',
    size: 32,
    run: (texts) => generate(dtype, 64, texts, 4, null),
  };
}

/** @param {FloatDType} dtype @returns {GrowthCase[]} */
export function linearAttentionCases(dtype) {
  /** @param {readonly number[]} lengths @param {number} size of a head */
  const sweep = (lengths, size) => {
    const { gatedDelta, causalConvolution, causalConvolutionGradient } = kernels.of(dtype);
    const settings = { keyHeads: 1, valueHeads: 1, keySize: size, valueSize: size };
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    const rows = t.tokenRows(lengths);
    const inputs = {
      ...{ qkv: seededTensor([tokens, 3 * size], 1, dtype), ba: seededTensor([tokens, 2], 2, dtype) },
      ...{ aLog: seededTensor([1], 3), dtBias: seededTensor([1], 4), rows },
    };
    const { kept } = gatedDelta.forward(inputs, settings, { before: null, record: true, keepLast: false });
    if (kept === null) throw new Error('the gated delta rule kept nothing');
    gatedDelta.backward(seededTensor([tokens, size], 5, dtype), inputs, kept, settings);
    const [x, weight] = [seededTensor([tokens, 16], 6, dtype), seededTensor([16, 4], 7)];
    causalConvolution(x, weight, rows, null);
    causalConvolutionGradient(x, x, weight, rows);
  };
  return [64, 128].flatMap((size) => [
    byTokens(`linear attention, ${dtype}, heads of ${size}`, 256, (tokens) => sweep([tokens], size)),
    byTokens(`linear attention of short rows, ${dtype}, heads of ${size}`, 64, (tokens) =>
      sweep(Array(tokens / 2).fill(2), size),
    ),
  ]);
}
