import { type InstructionSet, processorRuns } from '../../packages/tensor/src/index.js';
import { HAS_ALL_CASES } from '../usual-cases.js';

/** The best one first. Without AVX512-BF16, attention in bfloat16 computes in float32 inside. */
const LIBRARIES: readonly InstructionSet[] = ['avx512bf16', 'avx512', 'avx2', 'generic'];

/**
 * The CPU's library that a process chooses here, and another one that rounds in other places; null where the processor has none, and outside of
 * continuous integration, where set-up compiles one alone.
 */
export function librariesHere(): { best: InstructionSet; other: InstructionSet | null } {
  const best = LIBRARIES.find(processorRuns)!;
  const other = best === 'generic' || !HAS_ALL_CASES ? null : best === 'avx2' ? 'generic' : 'avx2';
  if (best !== 'avx512bf16' && HAS_ALL_CASES)
    console.log(`This processor has no AVX512-BF16: ${best} is compared with ${other}.`);
  return { best, other };
}
