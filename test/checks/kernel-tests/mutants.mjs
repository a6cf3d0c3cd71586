import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { NATIVE_DIR } from '../../../scripts/setup/native-build.mjs';

/** Where the sources of kernels are: {@link NATIVE_DIR} has CPU code, too. */
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
 * @property {keyof typeof import('./kernel-test-program.mjs').VARIANTS} variant
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
  'launch_table.h': { kernel: 'grouped_product', tests: ['GroupedProduct'] },
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
 * Errors by hand: [file, text, replacement, what they are]. A number chooses the occurrence of the text; `head`: shown by
 * heads of that size; `sample`: for `npm test`.
 *
 * @type {[keyof typeof FILES, string, string, string, { variant?: Mutant['variant'], occurrence?: number, head?: 128 | 512,
 *   sample?: boolean, unnoticed?: string }?][]}
 */
const BY_HAND = [
  [
    'attention_tile.cuh',
    'return key <= query &&',
    'return key < query &&',
    'a query does not see its own key',
    { sample: true },
  ],
  ['attention_tile.cuh', 'key > query - shape.window)', 'key >= query - shape.window)', 'a window is one key wider'],
  [
    'attention_tile.cuh',
    'query - shape.window + 1)',
    'query - shape.window + 65)',
    'the first tile of a window is left out',
  ],
  [
    'attention_tile.cuh',
    'length : key + shape.window;',
    'length : key + shape.window - 33;',
    "a window's last step is left out",
  ],
  ['attention_tile.cuh', 'key + keys - 1 <= query', 'key <= query', 'a tile with hidden keys counts as seen'],
  [
    'attention_tile.cuh',
    'key + keys - 1 <= query',
    'key + keys - 2 <= query',
    'a tile with one hidden key counts as seen',
    { unnoticed: 'tiles begin at multiples of 16: there is no such tile' },
  ],
  [
    'attention_tile.cuh',
    'query + queries <= length',
    'query <= length',
    'queries beyond a row count as seen',
    { unnoticed: 'queries beyond a row are zeros, and so are the gradients of their output' },
  ],
  ['attention_tile.cuh', 'score * (shape.scale * kLog2E)', 'score * kLog2E', 'scores are not scaled', { sample: true }],
  ['attention_tile.cuh', 'float slope = shape.scale', 'float slope = 1', 'gradients of scores are not scaled'],
  ['attention_tile.cuh', '1.0f - tanh * tanh', '1.0f', 'the slope of the cap is missing'],
  ['attention_tile.cuh', '(by_weight - delta)', '(by_weight)', "a query's sum is not subtracted"],
  ['attention_tile.cuh', 'c - D / 2 < half ?', 'c - D / 2 <= half ?', 'a number after the end of a head is written'],
  [
    'attention_tile.cuh',
    'if (c < D / 2) return c < half ? c',
    'if (c < D / 2) return c <= half ? c',
    'a zero is written over the second half',
  ],
  [
    'attention_bfloat16.cuh',
    'lane / 16 * 8 + lane % 8',
    'lane / 8 % 2 * 8 + lane % 8',
    'fragments of B are exchanged',
    { sample: true },
  ],
  [
    'attention_bfloat16.cuh',
    'const int row = threadIdx.x % 16, half = threadIdx.x % 32 / 16;',
    'const int row = threadIdx.x % 32 / 16 * 8 + threadIdx.x % 8, half = threadIdx.x / 8 % 2;',
    'fragments of A are exchanged',
  ],
  [
    'attention_bfloat16.cuh',
    'LoadMatrixX4Transposed(b',
    'LoadMatrixX4(b',
    'a fragment is not transposed',
    { sample: true },
  ],
  ['attention_bfloat16.cuh', 'left.at[2 * part + i % 4 / 2]', 'left.at[2 * part]', 'two registers of A are the same'],
  [
    'attention_bfloat16.cuh',
    'if (first + row < length)',
    'if (first + row <= length)',
    "a tile has the next row's first token",
    { variant: 'addresses', sample: true },
  ],
  [
    'attention_bfloat16.cuh',
    'result.at[n][2 * half] *= shrink;',
    '',
    'sums keep the scale of an earlier greatest score',
  ],
  ['attention_bfloat16.cuh', 'sum[half] * shrink + own', 'sum[half] + own', 'the total keeps that scale'],
  ['attention_bfloat16.cuh', 'log2f(total)) * kLn2', 'log2f(total))', 'sums are stored in units of log2'],
  [
    'attention_bfloat16.cuh',
    'const float base = top == -INFINITY ? 0 : top;',
    'const float base = top;',
    'a row that sees no key of a tile becomes NaN',
  ],
  [
    'attention_gradient.cuh',
    'steps + (step + 1) % 2 * 2 * kStepSize',
    'steps',
    'the next step overwrites the one in use',
    { variant: 'races', occurrence: 1, sample: true },
  ],
  [
    'attention_gradient.cuh',
    'a[i] * cosine[angle] + b[i] * sine[angle]',
    'a[i] * cosine[angle] - b[i] * sine[angle]',
    'gradients are turned the wrong way',
  ],
  [
    'attention_gradient.cuh',
    'sums + head * shape.tokens + at',
    'sums + at',
    "sums are those of the group's first head",
  ],
  [
    'attention_bfloat16.cuh',
    'head / (shape.heads / shape.key_value_heads)',
    'head % shape.key_value_heads',
    'queries use other keys',
  ],
  ['attention_bfloat16.cuh', 'WaitForAllCopies();', '', 'queries are read before they are there', { occurrence: 0 }],
  [
    'attention_bfloat16.cuh',
    'WaitForAllCopies();',
    '',
    'keys are read before they are there',
    { occurrence: 1, sample: true },
  ],
  ['attention_bfloat16.cuh', 'WaitForAllCopies();', '', 'values are read before they are there', { occurrence: 2 }],
  [
    'attention_gradient.cuh',
    'WaitForAllCopies();',
    '',
    'own rows of a gradient of large heads are read before they are there',
    { occurrence: 0, head: 512 },
  ],
  [
    'attention_gradient.cuh',
    'WaitForAllCopies();',
    '',
    'a step of a gradient of large heads is read before it is there',
    { occurrence: 1, head: 512 },
  ],
  [
    'attention_gradient.cuh',
    'WaitForAllCopies();',
    '',
    'own rows of a gradient are read before they are there',
    { occurrence: 2 },
  ],
  [
    'attention_gradient.cuh',
    'WaitForAllCopies();',
    '',
    'a step of a gradient is read before it is there',
    { occurrence: 3 },
  ],
  [
    'attention_bfloat16.cuh',
    'Layout::At(row, Columns',
    'Layout::At(0, Columns',
    '16 bytes of a row are read where they would lie without the exchange',
    { head: 128 },
  ],
  [
    'attention_bfloat16.cuh',
    'rows + tile * 16 * AttentionPitch(D)',
    'rows',
    "a warp's second tile in registers is its first",
  ],
  [
    'attention_bfloat16.cuh',
    'rows + tile * 16 * RowLayout<D, kPlace>::kPitch',
    'rows',
    "a warp's second tile in shared memory is its first",
    { head: 128 },
  ],
  [
    'attention_bfloat16.cuh',
    'threadIdx.x / 32 / kGroups * 16 * kTiles',
    'threadIdx.x / 32 / kGroups * 16',
    'warps have half of the rows twice',
  ],
  [
    'attention_bfloat16.cuh',
    'kLog2E * (shape.softcap != 0 ? shape.softcap : shape.scale)',
    'kLog2E * shape.scale',
    'a capped score has not the size of the cap',
  ],
  [
    'attention_gradient.cuh',
    'kLog2E * (shape.softcap != 0 ? shape.softcap : shape.scale)',
    'kLog2E * shape.scale',
    'a capped score has not the size of the cap in the gradient',
  ],
  ['attention_gradient.cuh', 'by_weight.at[n][i] -= of_query(n, i).y', '', "a query's sum is not subtracted"],
  ['attention_gradient.cuh', '1.0f - part * part', '1.0f', 'the slope of the cap is missing'],
  ['attention_gradient.cuh', 'by_own, shape.scale', 'by_own, 1.0f', 'gradients of scores are not scaled'],
  [
    'attention_gradient.cuh',
    'other = Other(step) + column',
    'other = Other(step)',
    'the mask is that of other columns',
  ],
  [
    'attention_gradient.cuh',
    'const int row = column + n * 8',
    'const int row = n * 8',
    'sums are those of other queries',
  ],
  [
    'attention_gradient.cuh',
    'half * 8 * kPitch',
    'half % 2 * 8 * kPitch',
    'scores of the second tile overwrite those of the first',
  ],
  [
    'attention_gradient.cuh',
    'left + tile * 16 * kPitch',
    'left',
    'the second tile is multiplied with the scores of the first',
  ],
  [
    'attention_gradient.cuh',
    'values{scores.memory + Rows::kRows * Numbers::kPitch}',
    'values{scores.memory}',
    'weights and scores lie at the same place',
  ],
  [
    'attention_gradient.cuh',
    'shared + 2 * Rows::kRows * Numbers::kPitch',
    'shared + Rows::kRows * Numbers::kPitch',
    'weights overwrite keys',
    { head: 128 },
  ],
  [
    'attention_gradient.cuh',
    'step_second + column * AttentionPitch(D)',
    'step_second',
    'weights have the gradients of other columns',
  ],
  ['attention_gradient.cuh', 'if (at >= length) continue;', '', 'gradients of tokens after a row are written'],
  ['attention_pages.cuh', 'i % kPageTokens != 0', 'i != 0', 'the second page of a tile is what lies behind the first'],
  [
    'attention_bfloat16.cuh',
    'group < kGroups;',
    'group < kGroups - 1;',
    "the last warp's part of a score is left out",
    { head: 512, sample: true },
  ],
  [
    'attention_bfloat16.cuh',
    'const int first = threadIdx.x / 32 / kGroups * kGroups;',
    'const int first = 0;',
    'parts of scores are those of the first rows',
    { head: 512 },
  ],
  [
    'attention_bfloat16.cuh',
    'i < kCount / 2 ? i : D / 2 + i - kCount / 2',
    'i',
    'a warp has columns of the one half only',
    { head: 512 },
  ],
  [
    'attention_gradient.cuh',
    'exchange.memory + AttentionExchangeBytes(kBlock) / 4',
    'exchange.memory',
    'both kinds of parts lie at the same place',
    { head: 512 },
  ],
  [
    'attention_bfloat16.cuh',
    'kKeepsSums && Own::First() + lane_column == 0',
    'kKeepsSums && lane_column == 0',
    "two warps store a query's sum",
    { head: 512, variant: 'races' },
  ],
  [
    'attention_float32.cuh',
    'row_values.From(first_column)',
    'row_values',
    'all blocks of a head have its first columns of values',
    { head: 512, sample: true },
  ],
  [
    'attention_float32.cuh',
    'row_gradient.From(first_column)',
    'row_gradient',
    'all blocks of a head have its first columns of the gradient',
    { head: 512 },
  ],
  [
    'attention_float32.cuh',
    'SourceColumn<D>(blockIdx.z * kColumns + x',
    'SourceColumn<D>(x',
    'all blocks of a head store into its first columns',
    { head: 512 },
  ],
  ['attention_bfloat16.cuh', 'if (at >= length) continue;', '', 'tokens after a row are written', { occurrence: 0 }],
  [
    'attention_bfloat16.cuh',
    '__shfl_xor_sync(kAllLanes, value, 2)',
    '__shfl_xor_sync(kAllLanes, value, 4)',
    'the greatest score of another row',
    { occurrence: 0 },
  ],
  [
    'float_product.cuh',
    'if (first + row >= length)',
    'if (first + row > length)',
    "a tile has the next row's first token",
    { variant: 'addresses' },
  ],
  [
    'float_product.cuh',
    'if (slice + kSlice < depth)',
    'if (slice + 2 * kSlice < depth)',
    'the last columns are left out',
  ],
  ['attention_float32.cuh', 'sum[i] *= shrink;', '', 'the total keeps the scale of an earlier greatest score'],
  [
    'float_product.cuh',
    'by = kSide / 2; by > 0',
    'by = kSide / 4; by > 0',
    'the greatest score of half a row',
    { occurrence: 0 },
  ],
  ['float_product.cuh', 'by = kSide / 2; by > 0', 'by = kSide / 4; by > 0', 'the sum of half a row', { occurrence: 1 }],
  [
    'row_tile.cuh',
    'offsets[middle] <= token',
    'offsets[middle] < token',
    'the first token of a row has the position after the row before',
  ],
  ['attention_prepare.cu', 'direction * sines.at[k]', 'sines.at[k]', 'gradients in float32 are turned the wrong way'],
  [
    'attention_prepare.cu',
    'cosine + angles + c + j',
    'cosine + angles + c',
    'four numbers have the angles of those before',
  ],
  [
    'attention_prepare.cu',
    'by = kSumLanes / 2',
    'by = kSumLanes / 4',
    "half of a query's lanes are left out of its sum",
  ],
  [
    'attention_prepare.cu',
    'blockIdx.y * tokens + token',
    'token * gridDim.y + blockIdx.y',
    'sums lie by tokens, not by heads',
  ],
  [
    'attention_prepare.cu',
    'head_dim % kVectorSize<Number> == 0 ?',
    'head_dim % 4 == 0 ?',
    'a head of 4 numbers more is read in larger parts',
    { variant: 'addresses' },
  ],
  ['attention_prepare.cu', 'if (c < half) {', 'if (c <= half) {', 'what follows a head is read as a part of it'],
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
  ['lora.cu', 'row < matrix.rows && own >= 0', 'own >= 0', 'A has rows of B below it'],
  ['lora.cu', ' && own < matrix.columns', '', 'B has numbers of its next row beyond its rank'],
  ['lora.cu', ' && own >= 0', '', 'B has numbers before its first column'],
  ['lora.cu', 'row * matrix.to_stride', 'row * matrix.all_columns', 'a matrix in a margin has no rows of its own'],
  ['lora.cu', '* matrix.scale', '', 'B is not scaled'],
  ['lora.cu', 'sum * own.scale', 'sum', 'the gradient by B is not scaled'],
  ['lora.cu', 'from[piece * own.piece_stride]', 'from[0]', 'all pieces of a gradient are the first'],
  ['dropout.cu', 'ToFloat(addend[at]) + ', '', 'the addend is left out'],
  [
    'launch_table.h',
    'first_block <= block',
    'first_block < block',
    'the first block of a product is of the one before',
  ],
  [
    'grouped_product.cu',
    '(outer + lane % 16) * kPitch + depth + lane / 16 * 8',
    '(outer + lane / 16 * 8 + lane % 8) * kPitch + depth + lane / 8 % 2 * 8',
    'registers of an operand are exchanged',
    { sample: true },
  ],
  [
    'grouped_product.cu',
    '(depth + lane / 16 * 8 + lane % 8) * kPitch + outer + lane / 8 % 2 * 8',
    '(depth + lane % 16) * kPitch + outer + lane / 16 * 8',
    'registers of a transposed operand are exchanged',
  ],
  [
    'grouped_product.cu',
    '{{both[0], both[2]}, {both[1], both[3]}}',
    '{{both[0], both[1]}, {both[2], both[3]}}',
    'halves of the depth are exchanged with columns',
  ],
  [
    'grouped_product.cu',
    'row < rows && column < columns && from.has_vectors',
    'from.has_vectors',
    'vectors beyond an operand are read',
    { variant: 'addresses' },
  ],
  ['grouped_product.cu', 'column + k < columns', 'column + k <= columns', 'a number beyond a row is read'],
  [
    'grouped_product.cu',
    'if (blockIdx.y >= group.pieces) return;',
    '',
    'pieces that a product does not have are written',
    { variant: 'addresses' },
  ],
  [
    'grouped_product.cu',
    'min(static_cast<int>(blockIdx.y) * group.piece_depth, group.depth)',
    '0',
    'each piece begins at the start of the depth',
  ],
  [
    'grouped_product.cu',
    'if (addend != nullptr) vector = LoadVector(addend + first);',
    '',
    'what is there is not added',
  ],
  [
    'grouped_product.cu',
    'row * group.addend_stride',
    'row * group.result_stride',
    'an addend has the rows of the result',
  ],
  [
    'grouped_product.cu',
    'at >= group.rows || column',
    'column',
    'rows beyond a result are written',
    { variant: 'addresses' },
  ],
  ['grouped_product.cu', 'if (n * 8 >= columns)', 'if (n * 8 + 8 >= columns)', 'the last columns are left out'],
  ['grouped_product.cu', 'WaitForCopies<kStages - 2>();', '', 'a slice is read before it is there'],
  ['grouped_product.cu', 'load(slice + kStages - 1);', 'load(slice + kStages);', 'a slice is never loaded'],
  [
    'grouped_product.cu',
    'if (depth + i < operand.depth)',
    'if (depth + i <= operand.depth)',
    'a number beyond the depth in float32',
  ],
  [
    'grouped_product.cu',
    'first_row + row >= left.outer || count <= 0',
    'count <= 0',
    'rows beyond an operand are copied',
    { variant: 'addresses' },
  ],
  [
    'grouped_product.cu',
    'left.depth - depth - column',
    'kProductSlice - column',
    'numbers beyond the depth are copied',
  ],
  ['grouped_product.cu', 'pieces[piece * size + i]', 'pieces[i]', 'all pieces are the first'],
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
  ['dequantize.cu', 'k % 2 == 0 ?', 'k % 2 != 0 ?', 'the halves of a byte are swapped'],
  ['dequantize.cu', 'at % 2 == 0 ?', 'i % 2 == 0 ?', 'a row that begins within a byte is swapped'],
  ['dequantize.cu', 'k % 2 == 0 ? byte & 15u', 'k % 2 != 0 ? byte & 15u', 'the halves of a byte of MXFP4 are swapped'],
  ['dequantize.cu', 'exponent == 0u ? 1u << 22 :', '', 'the smallest scale of MXFP4 is zero'],
  ['dequantize.cu', 'own_row * pitch', 'own_row * box.width', 'packs in 4 bits leave no margin', { occurrence: 0 }],
  ['dequantize.cu', 'own_row * pitch', 'own_row * box.width', 'numbers in 4 bits leave no margin', { occurrence: 1 }],
  ['dequantize.cu', 'own_row * pitch', 'own_row * box.width', 'numbers in 8 bits leave no margin', { occurrence: 2 }],
  ['dequantize.cu', 'box.pitch == 0 ? box.width :', '', 'without a margin, all rows are written over the first'],
  [
    'attention_bfloat16.cuh',
    'sink > -INFINITY && lane_column == 0',
    'sink > -INFINITY',
    'a sink counts once for each lane of a row',
  ],
  ['attention_float32.cuh', 'sink > -INFINITY && x == 0', 'sink > -INFINITY', 'a sink counts once for each thread'],
  [
    'packed_weights.cuh',
    '(block - first_block)',
    'block',
    'the scales of scales of a later module are those of others',
  ],
  [
    'packed_weights.cuh',
    'static_cast<float>(row) < module[0]',
    'static_cast<float>(row) <= module[0]',
    'a first row has the tables of the module before',
  ],
  [
    'few_rows.cu',
    '{weights[0][2 * i], weights[1][2 * i], weights[0][2 * i + 1]',
    '{weights[0][2 * i], weights[0][2 * i + 1], weights[1][2 * i]',
    'registers of A are exchanged',
  ],
  ['few_rows.cu', 'a + 2 * i)', 'a + 2 * (i ^ 1))', 'operands have other numbers of the depth', { sample: true }],
  ['few_rows.cu', 'if (row < rows) four', 'four', 'rows that there are not are read', { variant: 'addresses' }],
  [
    'few_rows.cu',
    'return min(row, weight_rows - 1)',
    'return row',
    'weights beyond the last row are read',
    { variant: 'addresses' },
  ],
  [
    'few_rows.cu',
    'row >= rows || weight_row',
    'weight_row',
    'rows that there are not are written',
    { variant: 'addresses' },
  ],
  ['few_rows.cu', 'codes[1] = rows[1]', 'codes[1] = rows[0]', 'later parts of the second row are those of the first'],
  ['few_rows.cu', 'values[(byte >> 4) * 32] * scale', 'values[(byte >> 4) * 32]', 'a scale is missing'],
  ['few_rows.cu', 'i = own / kHalf * 2 + row % 2', 'i = row % 2 * 2 + own / kHalf', 'sums of two rows are exchanged'],
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
  ['attention_pages.cuh', 'token % kPageTokens * columns', '0', 'all tokens of a page are its first', { sample: true }],
  ['attention_pages.cuh', 'pages[token / kPageTokens]', 'pages[0]', 'all tokens of a text are in its first page'],
  ['attention_pages.cuh', 'text.cached + (slot - text.first_block) * kSize', 'text.cached', 'a text has one tile only'],
  ['attention_pages.cuh', 'text.first - text.cached', 'text.first', 'queries of a later part of a text are misplaced'],
  ['attention_pages.cuh', 'Matrix(tile, 2 * head + 1, shape)', 'Matrix(tile, 2 * head, shape)', 'keys count as values'],
  [
    'attention_pages.cuh',
    'length && column < rows.columns',
    'length',
    'bfloat16: what follows a row is read as a part of it',
  ],
  [
    'attention_pages.cuh',
    'length || column >= rows.columns',
    'length',
    'float32: what follows a row is read as a part of it',
  ],
  ['attention_pages.cuh', 'c < head_dim ? c : -1', 'c', 'zeros behind a head are written'],
  ['cached_attention.cu', 'c < half ? -other : other', 'other', 'heads are not rotated', { sample: true }],
  ['cached_attention.cu', 'is_value ? nullptr : cosine', 'cosine', 'values are rotated'],
  [
    'cached_attention.cu',
    'const int position = text.cached + index',
    'const int position = index',
    'a later part of a text is put in place of the first',
  ],
  [
    'cached_attention.cu',
    'c < head_dim ? from[c] : Number{}',
    'from[c < head_dim ? c : 0]',
    'there are no zeros behind a head',
  ],
  ['cached_attention.cu', 'query + 1) - begin', 'query) - begin', 'a token does not see its own key'],
  ['cached_attention.cu', 'FirstSeenKey(query, shape.window));', '0);', 'a window begins with a piece'],
  ['cached_attention.cu', '.first + index', '.first', 'all pieces are the first'],
  ['cached_attention.cu', 'blockIdx.y % parts * kPieceHeads', '0', 'heads after the eighth of a key head are left out'],
  [
    'cached_attention.cu',
    'c < shape.head_dim ? ToFloat(own_queries[h * query_columns + c]) : 0',
    'ToFloat(own_queries[h * query_columns + c])',
    'a query is read beyond its end',
    { variant: 'addresses' },
  ],
  ['cached_attention.cu', 'scores[h], 2)', 'scores[h], 1)', 'two of four lanes are left out of a score'],
  ['cached_attention.cu', 'own[key] - base)', 'own[key])', 'weights are not relative to the greatest score'],
  ['cached_attention.cu', 'g < groups; g++', 'g < groups - 1; g++', 'the last sums of a column are left out'],
  ['cached_attention.cu', 'piece.y * FastExp2(piece.x - greatest)', 'piece.y', 'sums of pieces are added as they are'],
  ['cached_attention.cu', ' * FastExp2(own[piece].x - greatest)', '', 'results of pieces are added as they are'],
  ['cached_attention.cu', 'FastExp2(sink - greatest)', '0', 'a sink has no weight'],
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
  ['dequantize.cu', 'first.first_row += group * first.rows;', '', 'all groups are the first', { sample: true }],
  [
    'dequantize.cu',
    'modules + group * first.module_count * kModuleNumbers',
    'modules',
    'a group has the tables of the first one',
  ],
  ['dequantize.cu', 'result + blockIdx.y * numbers', 'result', 'all groups are decoded to the same memory'],
  ['dequantize.cu', 'scales + first / kMxfp4Numbers', 'scales', 'a group of MXFP4 has the scales of the first one'],
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
  ['merged_weight.cu', 'k == chain', 'k < 0', 'a high rank is one sum', { sample: true }],
  ['merged_weight.cu', 'Flushed(__fmaf_rn(', '(__fmaf_rn(', 'subnormal numbers are added up'],
  [
    'merged_weight.cu',
    'rows.b[(first_row + r) * rows.rank',
    'rows.b[r * rows.rank',
    'all blocks have the first rows of B',
  ],
  ['merged_weight.cu', 'Round<f16>(number)', 'Round<bf16>(number)', 'a weight of float16 is rounded to bfloat16'],
  ['merged_weight.cu', 'kSquareScale * number', 'number', 'squares are not scaled'],
  ['merged_weight.cu', ' || column >= rows.in', '', 'columns beyond the last are merged', { variant: 'addresses' }],
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
