import { answerParent } from '@lorasmith/engine-host';
import { configureKernels, measureMachine } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';

endWithoutGpu();
configureKernels('fused');
answerParent('measurement', () => measureMachine());
