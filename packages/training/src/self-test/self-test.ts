import type { KernelSet } from '@lorasmith/tensor';
import { type CaseSizes, type NumericCase, numericCases } from '@lorasmith/tensor/numeric-cases';
import { type ProbeModelSize, withProbeModel } from '../probe/probe-model.js';
import { type ComputedCase, computeCase } from './compute-cases.js';
import { trainingCases } from './training-cases.js';

/**
 * `kernels`: each fused kernel, simple op and product by itself. `basics`: simple ops and products alone. `training`: whole steps,
 * with these kernels.
 */
export type SelfTestPart = 'kernels' | 'basics' | 'training';

export interface SelfTestOptions {
  /** The kernels that are tested. */
  kernels: KernelSet;
  part: SelfTestPart;
  sizes: CaseSizes;
  /** How often each case is computed. */
  runs: 1 | 2;
  /** Names of cases that are left out, since an earlier process died in one of them or has done it. */
  skip: readonly string[];
  /** Awaited: a case may end the process, and its name must have been sent. */
  onStart(name: string): Promise<void>;
  onComputed(computed: ComputedCase): Promise<void>;
}

const PROBE_MODELS: Record<CaseSizes, ProbeModelSize> = { small: 'tiny', full: 'realistic' };

/** Computes the cases of one part on the engine of this process. What they mean is decided where two processes are compared. */
export async function computeSelfTest({ part, sizes, ...options }: SelfTestOptions): Promise<void> {
  if (part === 'kernels') return await computeAll(numericCases(sizes), options);
  if (part === 'basics') return await computeAll(numericCases(sizes).filter(isBasic), options);
  await withProbeModel((folder) => computeAll(trainingCases(folder), options), PROBE_MODELS[sizes]);
}

/** A case that every kernel and every plain variant rests on. */
function isBasic({ subject: { kind } }: NumericCase): boolean {
  return kind === 'op' || kind === 'product';
}

async function computeAll(
  cases: readonly NumericCase[],
  { kernels, runs, skip, onStart, onComputed }: Omit<SelfTestOptions, 'part' | 'sizes'>,
): Promise<void> {
  const skipped = new Set(skip);
  for (const one of cases) {
    if (skipped.has(one.name)) continue;
    await onStart(one.name);
    await onComputed(await computeCase(one, kernels, runs));
  }
}
