import { testFusedKernels } from './fused-kernels.js';

testFusedKernels('generic');
