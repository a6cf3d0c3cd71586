import { processorRuns } from '@lorasmith/tensor';
import { describe } from 'vitest';
import { testFusedKernels } from './fused-kernels.js';

// One library a process: each has a file.
describe.runIf(processorRuns('avx512'))('avx512', () => testFusedKernels('avx512'));
