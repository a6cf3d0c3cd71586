import { describe } from 'vitest';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { testFusedKernels } from './fused-kernels.js';

describe.runIf(HAS_ALL_CASES)('generic', () => testFusedKernels('generic'));
