import { adaptedPackedCases } from './adapted-packed-cases.js';
import { allAttentionCases } from './attention-cases.js';
import { expertCases } from './expert-cases.js';
import { kernelCases } from './kernel-cases.js';
import { linearAttentionCases } from './linear-attention-cases.js';
import type { CaseSizes, NumericCase } from './numeric-case.js';
import { parameterCases } from './parameter-cases.js';
import { quantizedCases } from './quantized-cases.js';
import { sampleTokenCases } from './sample-token-cases.js';
import { simpleOpCases } from './simple-op-cases.js';

export { type AttentionCase, attentionCases } from './attention-cases.js';
export type { CaseSizes, CaseSubject, CaseTolerance, NumericCase } from './numeric-case.js';
export { seededNumbers, seededTensor } from './seeded-inputs.js';
export { TRAINING_STEP } from './tolerances.js';

/**
 * The table of ops with the tolerance of each: the self-test of a card computes it on the card and on the CPU, and the tests of the
 * fused kernels with fused and with plain ones.
 */
export function numericCases(sizes: CaseSizes): NumericCase[] {
  const parameters = (['float32', 'bfloat16'] as const).flatMap((dtype) => [
    ...parameterCases(dtype, sizes),
    ...quantizedCases(dtype, sizes),
    ...adaptedPackedCases(dtype, sizes),
    ...expertCases(dtype, sizes),
    ...sampleTokenCases(dtype, sizes),
  ]);
  return [
    ...simpleOpCases(sizes),
    ...kernelCases(sizes),
    ...allAttentionCases(sizes),
    ...linearAttentionCases(sizes),
    ...parameters,
  ];
}
