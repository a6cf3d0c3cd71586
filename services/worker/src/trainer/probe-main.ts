import { answerParent } from '@lorasmith/engine-host';
import { configureKernels, measureMachine } from '@lorasmith/training';
import { avoidedKernels } from './avoided-kernels.js';
import { endWithoutGpu } from './end-without-gpu.js';

endWithoutGpu();
configureKernels('fused', { avoid: avoidedKernels() });
answerParent('measurement', (order: { hasBfloat16: boolean }) => measureMachine(order));
