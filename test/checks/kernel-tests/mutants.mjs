import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { NATIVE_DIR } from '../../../scripts/setup/native-build.mjs';
import { ATTENTION_ERRORS } from './attention-errors.mjs';
import { PRODUCT_ERRORS } from './product-errors.mjs';

/** The folder of the sources of kernels: {@link NATIVE_DIR} has CPU code, too. */
const FOLDERS = ['cuda/kernels', 'ops'];

/** The files of kernels by their names, relative to {@link NATIVE_DIR}. @returns {Promise<Map<string, string>>} */
async function kernelFiles() {
  const found = new Map();
  for (const folder of FOLDERS) {
    for (const name of await readdir(path.join(NATIVE_DIR, folder), { recursive: true })) {
      found.set(path.basename(name), path.join(folder, name));
    }
  }
  return found;
}

/**
 * A kernel with one error, which the kernel tests should notice.
 *
 * @typedef {object} Mutant
 * @property {string} name
 * @property {string} file relative to {@link NATIVE_DIR}
 * @property {string} text that is replaced
 * @property {number} occurrence of the text, from 0
 * @property {string} replacement
 * @property {string} kernel the .cu file that is compiled with it, without the ending
 * @property {string} source its path, relative to {@link NATIVE_DIR}
 * @property {string[]} tests parts of their names
 * @property {keyof typeof import('../kernel-tests.mjs').VARIANTS} variant
 * @property {string | null} unnoticed why nothing notices it, where that is known
 * @property {boolean} inSample whether `npm test` tries it
 */

/** Tests of each file, and the kernel that shows errors of a header. */
const FILES = {
  'attention_bfloat16.cuh': { kernel: 'attention_64', tests: ['AttentionBFloat16'] },
  'attention_gradient.cuh': { kernel: 'attention_64', tests: ['AttentionBFloat16'] },
  'attention_float32.cuh': { kernel: 'attention_64', tests: ['AttentionFloat32'] },
  'float_product.cuh': { kernel: 'attention_64', tests: ['AttentionFloat32'] },
  'attention_tile.cuh': { kernel: 'attention_64', tests: ['Attention'] },
  'attention_pages.cuh': { kernel: 'attention_64', tests: ['CachedPrompt'] },
  'cached_attention.cu': {
    kernel: 'cached_attention',
    tests: ['CachedSingle', 'CachedPromptFloat32Parts_64', 'CachedPromptFloat32Narrow_64'],
  },
  'attention_prepare.cu': { kernel: 'attention_prepare', tests: ['Attention'] },
  'row_tile.cuh': { kernel: 'attention_prepare', tests: ['Attention'] },
  'device.h': { kernel: 'softmax', tests: ['Softmax'] },
  'norm.cu': { kernel: 'norm', tests: ['Norms', 'Centred'] },
  'softmax.cu': { kernel: 'softmax', tests: ['Softmax'] },
  'reduce.cu': { kernel: 'reduce', tests: ['Reductions'] },
  'copy.cu': { kernel: 'copy', tests: ['Copies', 'Transposes', 'Gather'] },
  'scatter.cu': { kernel: 'scatter', tests: ['Scatter'] },
  'cross_entropy.cu': { kernel: 'cross_entropy', tests: ['CrossEntropy'] },
  'sample_tokens.cu': { kernel: 'sample_tokens', tests: ['SampleTokens'] },
  'token_draw.h': { kernel: 'sample_tokens', tests: ['SampleTokens'] },
  'elementwise.cu': { kernel: 'elementwise', tests: ['Broadcasting', 'Functions'] },
  'random.cu': { kernel: 'random', tests: ['RandomNumbers'] },
  'gated_unit.cu': { kernel: 'gated_unit', tests: ['GatedUnit', 'ClampedUnit'] },
  'activation.cu': { kernel: 'activation', tests: ['ActivationFloat32', 'ActivationBFloat16'] },
  'lora.cu': { kernel: 'lora', tests: ['Lora'] },
  'dropout.cu': { kernel: 'dropout', tests: ['Dropout'] },
  'grouped_product.cu': { kernel: 'grouped_product', tests: ['Product', 'SumPieces'] },
  'portable.h': { kernel: 'grouped_product', tests: ['GroupedProduct'] },
  'adamw.cu': { kernel: 'adamw', tests: ['AdamW', 'AdamW8bit'] },
  'dequantize.cu': { kernel: 'dequantize', tests: ['Dequantize'] },
  'packed_weights.cuh': { kernel: 'dequantize', tests: ['Dequantize'] },
  'few_rows.cu': { kernel: 'few_rows', tests: ['QuantizedFewRows', 'ScaledFewRows'] },
  'causal_convolution.cu': { kernel: 'causal_convolution', tests: ['CausalConvolution'] },
  'gated_delta_tokens.cu': { kernel: 'gated_delta_tokens', tests: ['GatedDeltaFloat32_64'] },
  'gated_delta_sweep.cuh': { kernel: 'gated_delta_64', tests: ['GatedDeltaFloat32_64', 'GatedDeltaFloat32Whole_64'] },
  'gated_delta_chunk.cuh': { kernel: 'gated_delta_64', tests: ['GatedDeltaFloat32_64'] },
  'gathered_sum.cu': { kernel: 'gathered_sum', tests: ['GatheredSum'] },
  'merged_weight.cu': { kernel: 'merged_weight', tests: ['MergeRows'] },
};

/** Tests of other heads than 64: of 512, a block's warps have parts, or blocks; of 128, rows in shared memory are exchanged. */
const CAP_TESTS = {
  'attention_bfloat16.cuh': 'AttentionBFloat16Cap',
  'attention_gradient.cuh': 'AttentionBFloat16Cap',
  'attention_float32.cuh': 'AttentionFloat32Cap',
};

/** @param {string} file a key of {@link CAP_TESTS} @param {128 | 512} head */
function shownBy(file, head) {
  const test = CAP_TESTS[/** @type {keyof typeof CAP_TESTS} */ (file)];
  return { kernel: `attention_${head}`, tests: [`${test}_${head}`] };
}

/**
 * An error by hand: [file, text, replacement, what it is]. A number chooses the occurrence of the text; `head`: shown by
 * heads of that size; `sample`: for `npm test`.
 *
 * @typedef {readonly [keyof typeof FILES, string, string, string, { variant?: Mutant['variant'], occurrence?: number, head?: 128 | 512,
 *   sample?: boolean, unnoticed?: string }?]} ErrorByHand
 */

/** Errors of kernels other than those of attention and of products. @type {ErrorByHand[]} */
const OTHER_ERRORS = [
  [
    'device.h',
    'lane == 0) sums[warp] = value',
    'lane == 1) sums[warp] = value',
    'another lane stores the sum of a warp',
    { unnoticed: 'all lanes have the same sum' },
  ],
  [
    'device.h',
    'lane < static_cast<int>(blockDim.x / 32) ? sums',
    'lane <= static_cast<int>(blockDim.x / 32) ? sums',
    'the sum of a warp that does not exist is added',
  ],
  [
    'device.h',
    'for (int by = 16; by > 0; by >>= 1) value += ',
    'for (int by = 8; by > 0; by >>= 1) value += ',
    'the sum of half a warp',
  ],
  ['elementwise.cu', 'a > b || a != a ? a : b', 'a > b ? a : b', 'the maximum of NaN and a number is the number'],
  ['elementwise.cu', 'x > 0.0f || x != x ?', 'x > 0.0f ?', 'ReLU of NaN is 0'],
  ['random.cu', '4 * i + k < size', '4 * i + k <= size', 'a number after the end is written', { variant: 'addresses' }],
  [
    'gated_unit.cu',
    'i < width; i += blockDim.x * kSize',
    'i + kSize < width; i += blockDim.x * kSize',
    'the last vector is left out',
  ],
  ['gated_unit.cu', 'Store(d * f.value, by_up)', 'Store(d, by_up)', 'the gradient by up has no gate'],
  ['dropout.cu', 'ToFloat(addend[at]) + ', '', 'the addend is left out'],
  ['adamw.cu', 'step.one_minus_beta1', 'step.one_minus_beta2', 'the first moment has the share of the second'],
  [
    'adamw.cu',
    '__fdiv_rn(__fsqrt_rn(to.second), step.root_correction)',
    '__fsqrt_rn(to.second)',
    'the second moment is not corrected',
  ],
  ['adamw.cu', 'min(1.0, max_norm', 'max(1.0, max_norm', 'small gradients are enlarged'],
  [
    'adamw.cu',
    'BlockMax(fabsf(to.second))',
    'BlockMax(fabsf(to.first))',
    'the second moment has the scale of the first',
  ],
  ['activation.cu', 'i < vectors; i += step', 'i < vectors; i += vectors', 'a thread has one vector'],
  [
    'activation.cu',
    'vectors * kSize + first',
    'vectors * kSize + 1 + first',
    'the first number after the vectors is left out',
  ],
  ['activation.cu', 'ToFloat(from) * F::Both', 'F::Both', 'a gradient is a slope'],
  ['norm.cu', 'BlockSum(sum) / static_cast', 'sum / static_cast', 'a mean is of the numbers of a thread'],
  [
    'norm.cu',
    'EachFurther(packs, [&](int i) { add(',
    'if (false) EachFurther(packs, [&](int i) { add(',
    'a mean is of the numbers that are kept',
  ],
  [
    'causal_convolution.cu',
    'if (position >= back) {',
    'if (position > back) {',
    'the first token of a row is not read by later ones',
    { sample: true },
  ],
  ['causal_convolution.cu', 'taps - 1 + position - back', 'position', 'what came before a row is in another order'],
  ['causal_convolution.cu', 'if (position >= length) return 0.0f;', '', 'the gradient has tokens of the next row'],
  ['causal_convolution.cu', 'enters = true; },', '},', 'the gradient keeps sums of the row before'],
  [
    'causal_convolution.cu',
    'while (token >= offsets[row + 1]) row++;',
    '',
    'a row is that of the first token of a block',
  ],
  ['causal_convolution.cu', '.slope;', '.value;', 'the slope of silu is its value'],
  ['gated_delta_tokens.cu', 'WarpSum(sum) + 1e-6f', 'sum + 1e-6f', 'a length is of some numbers of a vector'],
  [
    'gated_delta_tokens.cu',
    'if (is_query) factor *=',
    'if (!is_query) factor *=',
    'keys are scaled, and queries are not',
  ],
  ['gated_delta_tokens.cu', '- ToFloat(x[i]) * along', '', 'the gradient changes the length of a vector'],
  [
    'gated_delta_tokens.cu',
    'head * shared * shape.tokens',
    'head * shape.tokens',
    'gradients are of other value heads',
  ],
  [
    'gated_delta_sweep.cuh',
    'position > 0 && position % kRowTile == 0)',
    'position > 0 && position % kRowTile == kTokens)',
    'a state is kept 16 tokens too late',
    { sample: true },
  ],
  ['gated_delta_sweep.cuh', '- decay * state.Dot(key', '- state.Dot(key', 'what is recalled has not decayed'],
  ['gated_delta_sweep.cuh', 'by = kDeltaLanes / 2; by > 0', 'by = kDeltaLanes / 4; by > 0', 'the sum of half a column'],
  ['gated_delta_sweep.cuh', 'WaitForCopies<1>();', '', 'keys are read before they are there', { occurrence: 0 }],
  ['gated_delta_sweep.cuh', 'WaitForCopies<1>();', '', 'keys of the gradient are read too early', { occurrence: 1 }],
  [
    'gated_delta_sweep.cuh',
    'start(position + kTokens, buffer ^ 1)',
    'start(position + kTokens, buffer)',
    'the next tokens overwrite those in use',
  ],
  ['gated_delta_sweep.cuh', 'state.Step(1.0f,', 'state.Step(decay,', 'the gradient by a state decays twice'],
  ['gated_delta_sweep.cuh', 'head / (shape.value_heads / shape.key_heads)', 'head % shape.key_heads', 'other keys'],
  ['gated_delta_chunk.cuh', 's <= t ? decay', 's < t ? decay', "a token's query has no gradient by its own value"],
  ['gated_delta_chunk.cuh', 's >= t ? decay', 's > t ? decay', "a token's key has no gradient by its own query"],
  [
    'gated_delta_chunk.cuh',
    't == s ? 0.0f : both',
    'both',
    'a key recalls its own value',
    { unnoticed: 'a gradient along a key ends where keys get the length one' },
  ],
  ['gated_delta_chunk.cuh', 't >= s ? between : -between', 'between', 'decays grow towards earlier tokens'],
  [
    'gated_delta_chunk.cuh',
    'passing = memory.from_start[count - 1] * StateDot<D>(start, end);',
    'passing = 0;',
    'a gate has no part in what passes its chunk',
    { sample: true },
  ],
  ['gated_delta_chunk.cuh', 'change -= memory', 'change += memory', 'what ends at a token still passes'],
  ['gated_delta_chunk.cuh', 'at < rows.length', 'at <= rows.length', 'a token after a row', { variant: 'addresses' }],
  [
    'gated_delta_chunk.cuh',
    'tile.first + kRowTile < tile.length',
    'tile.first + kRowTile <= tile.length',
    'a last state that is not kept',
  ],
  [
    'scatter.cu',
    'i < m ? indices[i]',
    'i <= m ? indices[i]',
    'an index after the last is read',
    { variant: 'addresses' },
  ],
  ['scatter.cu', '(m - 1) / kStep * kStep;', 'm / kStep * kStep - kStep;', 'the last indices are left out'],
  ['scatter.cu', 'k = kLoads - 1; k >= 0; k--', 'k = 0; k < kLoads; k++', 'loads are linked in the opposite order'],
  ['scatter.cu', '31 - __clz(found)', '__ffs(found) - 1', 'lanes are linked in the opposite order'],
  ['scatter.cu', 'next[i] = first[row];', 'next[i] = -1;', 'a row has one update only', { sample: true }],
  [
    'scatter.cu',
    'row >= 0 && row < rows',
    'row >= 0',
    'an index after the last row is taken',
    { variant: 'addresses' },
  ],
  ['scatter.cu', 'row >= 0 && row < rows', 'row < rows', 'a negative index is taken', { variant: 'addresses' }],
  ['scatter.cu', 'int64_t{kOwners} * 32', 'int64_t{kOwners} * 64', 'rows begin with whatever was there'],
  ['scatter.cu', 'width % kSize == 0 && ', '', 'rows that begin within a vector are read as vectors'],
  ['scatter.cu', '&& IsVectorAligned(updates)', '', 'vectors are read at any address'],
  ['gathered_sum.cu', 'own[i];', 'own[0];', 'a sum has one row several times', { sample: true }],
  [
    'gathered_sum.cu',
    '? ToFloat(numbers.values[k]) : NAN',
    '? ToFloat(numbers.values[k]) : 0',
    'no row is a row of zeros',
  ],
  ['gathered_sum.cu', 'row < rows;', 'true;', 'a row beyond the last is read', { variant: 'addresses' }],
  [
    'gathered_sum.cu',
    'column < width; column += blockDim.x * kSize',
    'column + kSize < width; column += blockDim.x * kSize',
    'the last vector is left out',
  ],
  ['gated_unit.cu', 'up > limit || up < -limit', 'up > limit', 'a clamped up has a gradient'],
  ['gated_unit.cu', 'gate > limit ? 0.0f : d', 'd', 'a clamped gate has a gradient'],
  ['gated_unit.cu', 'gate > limit ? limit : gate', 'gate >= limit ? limit : limit', 'all gates are the limit'],
  ['gated_unit.cu', '(up < -limit ? -limit : up)', 'up', 'ups are clamped on one side'],
  ['gated_unit.cu', 'pairs.values[2 * k + 1], limit, &units', 'pairs.values[2 * k], limit, &units', 'gates are ups'],
  ['gated_unit.cu', 'i < vectors; i += step', 'i + 1 < vectors; i += step', 'the last vector of pairs is left out'],
  ['sample_tokens.cu', 'id < other_id', 'id > other_id', 'of equal logits the last one is taken'],
  [
    'sample_tokens.cu',
    'if (greatest.logit == INFINITY) greatest.id = -1;',
    ';',
    'a number that is not finite is overlooked',
  ],
  ['sample_tokens.cu', 'if (!(logit < INFINITY))', 'if (logit == INFINITY)', 'a NaN among logits is overlooked'],
  ['sample_tokens.cu', 'found[k] < wanted', 'found[k] <= wanted', 'a sum that is just reached does not count'],
  ['sample_tokens.cu', 'bits >= low + (k + 1)', 'bits >= low + k', 'a threshold is taken for the next one'],
  ['sample_tokens.cu', 'counts ? 1 : FixedWeight(weight)', 'FixedWeight(weight)', 'top_k is a sum of weights'],
  ['sample_tokens.cu', 'weights[i] >= least', 'weights[i] > least', 'the least weights are not in the sum'],
  [
    'sample_tokens.cu',
    'weights[i] >= least',
    'weights[i] > least',
    "the least weights are not in a part's sum",
    { occurrence: 1 },
  ],
  ['sample_tokens.cu', 'weights[i] >= least', 'true', 'a token is drawn that is not kept', { occurrence: 2 }],
  ['sample_tokens.cu', 'target >= of_warps[found]', 'target > of_warps[found]', 'the part before is walked'],
  ['sample_tokens.cu', '(end - begin + kWarps - 1) / kWarps', '(end - begin) / kWarps', 'the last tokens are left out'],
  [
    'sample_tokens.cu',
    'if (target < weight) return i;',
    'if (target <= weight) return i;',
    'a token is drawn too early',
  ],
  ['sample_tokens.cu', 'sum = SumKept(weights, vocab, least);', ';', 'top_p is of all tokens, not of those of top_k'],
  ['sample_tokens.cu', 'least = fmaxf(least, choice.min_p);', ';', 'min_p is left out'],
  ['sample_tokens.cu', '>> (i % 32) & 1', '>> (i % 31) & 1', 'another bit of the mask is read'],
  ['sample_tokens.cu', 'if (choice.given >= 0)', 'if (choice.given > 1 << 30)', 'a token that is there is drawn'],
  ['sample_tokens.cu', 'i > last.id', 'i >= last.id', 'a token is twice among the most probable ones'],
  [
    'sample_tokens.cu',
    'greatest.logit, kLog2E',
    'greatest.logit, choice.scale',
    'log-probabilities at the temperature',
  ],
  ['token_draw.h', '-5.5504106e-2f', '-5.55041e-2f', 'a coefficient is less exact'],
  ['token_draw.h', 'Plus(x, 0.5f)', 'x', 'the polynomial is used beyond its half'],
  ['token_draw.h', 'logit > 0.0f ?', 'logit < 0.0f ?', 'a repetition becomes more probable'],
  ['token_draw.h', 'Less(repeated, subtracted)', 'repeated', 'nothing is subtracted'],
  ['token_draw.h', '((sum & 0xffffffffu) * part) >> 32', '0', 'the lower half of a sum is left out'],
];

/** @type {ErrorByHand[]} */
const BY_HAND = [...ATTENTION_ERRORS, ...PRODUCT_ERRORS, ...OTHER_ERRORS];

/** Barriers whose removal nothing notices: [file, occurrence, why]. @type {[string, number, string][]} */
const UNNOTICED_BARRIERS = [
  ['device.h', 2, 'it is for a second maximum at once, which no kernel takes yet'],
  ['gated_delta_chunk.cuh', 2, 'the product before the factors are read has a barrier'],
];

/** Barriers that only heads of 512 numbers have. @type {[string, number][]} */
const BARRIERS_OF_LARGE_HEADS = [
  ['attention_gradient.cuh', 0],
  ['attention_gradient.cuh', 1],
  ['attention_gradient.cuh', 2],
  ['attention_gradient.cuh', 3],
];

/** Barriers of headers that another kernel shows: of a block that takes several sums at once. @type {[string, number, keyof typeof FILES][]} */
const BARRIERS_OF_OTHERS = [['device.h', 0, 'merged_weight.cu']];

/** Barriers that are tried in `npm test`. @type {[string, number][]} */
const SAMPLED_BARRIERS = [
  ['attention_bfloat16.cuh', 2],
  ['device.h', 1],
];

/** @returns {Promise<Mutant[]>} each barrier of {@link FILES} removed, and the errors by hand */
export async function allMutants() {
  const files = await kernelFiles();
  const pathOf = (/** @type {string} */ name) => /** @type {string} */ (files.get(name));
  /** @type {Omit<Mutant, 'source'>[]} */
  const mutants = [];
  for (const [file, { kernel, tests }] of Object.entries(FILES)) {
    const source = await readFile(path.join(NATIVE_DIR, pathOf(file)), 'utf8');
    for (const barrier of ['__syncthreads();', '__syncwarp();']) {
      const count = source.split(barrier).length - 1;
      for (let occurrence = 0; occurrence < count; occurrence++) {
        const known = UNNOTICED_BARRIERS.find(([of, at]) => of === file && at === occurrence);
        const large = BARRIERS_OF_LARGE_HEADS.find(([of, at]) => of === file && at === occurrence);
        const other = BARRIERS_OF_OTHERS.find(([of, at]) => of === file && at === occurrence);
        mutants.push({
          name: `without barrier ${occurrence}`,
          ...{ file, text: barrier, occurrence, replacement: ';', kernel, tests, variant: 'races' },
          ...(large && shownBy(file, 512)),
          ...(other && FILES[other[2]]),
          unnoticed: known?.[2] ?? null,
          inSample: SAMPLED_BARRIERS.some(([of, at]) => of === file && at === occurrence),
        });
      }
    }
  }
  for (const [file, text, replacement, name, options = {}] of BY_HAND) {
    const { variant = 'orders', occurrence = 0, head, sample = false, unnoticed = null } = options;
    const shown = head === undefined ? FILES[file] : shownBy(file, head);
    mutants.push({ name, file, text, occurrence, replacement, ...shown, variant, unnoticed, inSample: sample });
  }
  return mutants.map((mutant) => ({ ...mutant, file: pathOf(mutant.file), source: pathOf(`${mutant.kernel}.cu`) }));
}

/** @param {Mutant} mutant @param {string} source the file's text @returns {string} the text with the error */
export function mutate({ file, text, occurrence, replacement }, source) {
  const parts = source.split(text);
  if (parts.length - 1 <= occurrence) throw new Error(`${file} does not have "${text}" ${occurrence + 1} times`);
  return `${parts.slice(0, occurrence + 1).join(text)}${replacement}${parts.slice(occurrence + 1).join(text)}`;
}
