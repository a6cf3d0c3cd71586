import { configureKernels } from '../packages/tensor/src/index.js';

// Each file begins with TensorFlow's own ops, whatever the one before it in the process has chosen.
configureKernels('raw');
