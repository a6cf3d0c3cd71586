import { type ProbeModelSize, withProbeModel } from '../probe/probe-model.js';
import { type ComputedCase, computeCase } from './compute-cases.js';
import { kernelCases } from './kernel-cases.js';
import { opCases } from './op-cases.js';
import { parameterCases } from './parameter-cases.js';
import type { SelfTestCase, SelfTestSizes } from './self-test-case.js';
import { trainingCases } from './training-cases.js';

/** `kernels`: each fused kernel, simple op and product by itself. `training`: whole steps, with the kernels that are in use. */
export type SelfTestPart = 'kernels' | 'training';

export interface SelfTestOptions {
  part: SelfTestPart;
  sizes: SelfTestSizes;
  /** How often each case is computed. */
  runs: 1 | 2;
  /** Names of cases that are left out, since an earlier process died in one of them or has done it. */
  skip: readonly string[];
  /** Awaited: a case may end the process, and its name must have been sent. */
  onStart(name: string): Promise<void>;
  onComputed(computed: ComputedCase): Promise<void>;
}

const PROBE_MODELS: Record<SelfTestSizes, ProbeModelSize> = { small: 'tiny', full: 'realistic' };

/** Computes the cases of one part on the engine of this process. What they mean is decided where two processes are compared. */
export async function computeSelfTest({ part, sizes, ...options }: SelfTestOptions): Promise<void> {
  if (part === 'kernels') return await computeAll(casesOf(sizes), options);
  await withProbeModel((folder) => computeAll(trainingCases(folder), options), PROBE_MODELS[sizes]);
}

function casesOf(sizes: SelfTestSizes): SelfTestCase[] {
  const parameters = (['float32', 'bfloat16'] as const).flatMap((dtype) => parameterCases(dtype, sizes));
  return [...opCases(sizes), ...kernelCases(sizes), ...parameters];
}

async function computeAll(
  cases: readonly SelfTestCase[],
  { runs, skip, onStart, onComputed }: Omit<SelfTestOptions, 'part' | 'sizes'>,
): Promise<void> {
  const skipped = new Set(skip);
  for (const one of cases) {
    if (skipped.has(one.name)) continue;
    await onStart(one.name);
    await onComputed(await computeCase(one, runs));
  }
}
