import { processorRuns } from '@lorasmith/tensor';
import { describe } from 'vitest';
import { testFusedKernels } from './fused-kernels.js';

// One library a process: each has a file.
describe.runIf(processorRuns('avx2'))('avx2', () => testFusedKernels('avx2'));
