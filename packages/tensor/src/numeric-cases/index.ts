import { HEAD_SIZES } from '../kernels/kernel-table.js';
import { attentionCases, attentionTests, linearAttentionCases } from './attention-cases.js';
import { expertCases } from './expert-cases.js';
import { kernelCases } from './kernel-cases.js';
import { cacheCases, cacheTests } from './key-value-cache-cases.js';
import type { CaseSizes, NumericCase, TestCase } from './numeric-case.js';
import { optimizerCases } from './optimizer-cases.js';
import { parameterCases } from './parameter-cases.js';
import { adaptedPackedCases, quantizedCases } from './quantized-cases.js';
import { sampleTokenCases } from './sample-token-cases.js';
import { severalAdaptersTests } from './several-adapters-cases.js';
import { simpleOpCases } from './simple-op-cases.js';

export { type AttentionCase, attentionCases } from './attention-cases.js';
export {
  type CaseSizes,
  type CaseSubject,
  type CaseTolerance,
  type NumericCase,
  seededNumbers,
  seededTensor,
  type TestCase,
  type TestTolerance,
  TRAINING_STEP,
} from './numeric-case.js';

const DTYPES = ['float32', 'bfloat16'] as const;

/**
 * The cases that the self-test of a card computes on the card and on the CPU. The tests of the fused kernels compute the small ones with
 * fused and with plain kernels.
 */
export function numericCases(sizes: CaseSizes): NumericCase[] {
  return table(sizes).filter((one): one is NumericCase => one.checks !== 'tests');
}

/** The cases that only the tests of the fused kernels compute. */
export function testCases(): TestCase[] {
  return table('small').filter((one): one is TestCase => one.checks === 'tests');
}

/**
 * The table of ops with the shapes and the tolerance of each. `test/checks/kernel-growth` has sizes of its own, since it doubles them and compares
 * no numbers, and so has `native/cuda/test`, which compares a kernel with loops in double precision.
 */
function table(sizes: CaseSizes): (NumericCase | TestCase)[] {
  const attention = DTYPES.flatMap((dtype) => [
    ...HEAD_SIZES.flatMap((headDim) => attentionCases(dtype, headDim, sizes)),
    ...HEAD_SIZES.flatMap((headDim) => cacheCases(dtype, headDim, sizes)),
    ...[...attentionTests(dtype), ...cacheTests(dtype)],
  ]);
  const parameters = DTYPES.flatMap((dtype) => [
    ...parameterCases(dtype, sizes),
    ...(dtype === 'float32' ? optimizerCases(sizes) : []),
    ...severalAdaptersTests(dtype),
    ...quantizedCases(dtype, sizes),
    ...adaptedPackedCases(dtype, sizes),
    ...expertCases(dtype, sizes),
    ...sampleTokenCases(dtype, sizes),
  ]);
  return [...simpleOpCases(sizes), ...kernelCases(sizes), ...attention, ...linearAttentionCases(sizes), ...parameters];
}
