import { describe } from 'vitest';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { processorRuns } from '../src/kernels/fused-library.js';
import { testFusedKernels } from './fused-kernels.js';

// A process can load one library, so each has a test file.
describe.runIf(HAS_ALL_CASES && processorRuns('avx2'))('avx2', () => testFusedKernels('avx2'));
