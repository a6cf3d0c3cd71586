import { describe } from 'vitest';
import { processorRuns } from '../src/kernels/fused-library.js';
import { testFusedKernels } from './fused-kernels.js';

// A process can load one library, so each has a test file.
describe.runIf(processorRuns('avx512'))('avx512', () => testFusedKernels('avx512'));
