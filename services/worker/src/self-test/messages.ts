// Types alone: the worker must not load the engine.
import type { KernelSource } from '@lorasmith/contracts';
import type { CaseSizes, ComputedCase, SelfTestPart } from '@lorasmith/training';

/** The order to a process of the self-test. It has an engine of its own, which its environment decides. */
export interface SelfTestOrder {
  type: 'compute';
  part: SelfTestPart;
  sizes: CaseSizes;
  runs: 1 | 2;
  /** Cases to leave out. */
  skip: string[];
  kernels: KernelSource;
  /** Fused kernels not to use. */
  avoid: string[];
}

/** The replies of the process. Nothing follows the last two. */
export type SelfTestReply =
  | { type: 'started'; name: string }
  | { type: 'computed'; computed: ComputedCase }
  | { type: 'finished' }
  | { type: 'failed'; message: string };
