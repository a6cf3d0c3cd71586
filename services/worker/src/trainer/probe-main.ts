import { answerParent } from '@lorasmith/engine-host';
import { configureKernels, type MeasureOptions, measureMachine } from '@lorasmith/training';
import { avoidedKernels } from './avoided-kernels.js';
import { endWithoutGpu } from './end-without-gpu.js';

endWithoutGpu();
configureKernels('fused', { avoid: avoidedKernels() });
answerParent('measurement', (options: MeasureOptions) => measureMachine(options));
