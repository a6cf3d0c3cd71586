import { answerParent } from '@lorasmith/child-processes';
import { configureKernels, type MeasureOptions, measureMachine } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';
import { avoidedKernels } from './trainer-arguments.js';

endWithoutGpu();
configureKernels('fused', { avoid: avoidedKernels() });
answerParent('measurement', (options: MeasureOptions) => measureMachine(options));
