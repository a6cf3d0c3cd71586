import { answerParent } from '@lorasmith/child-processes';
import { chooseKernels, type MeasureOptions, measureMachine } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';
import { trainerKernels } from './trainer-arguments.js';

endWithoutGpu();
const kernels = chooseKernels(...trainerKernels());
answerParent('measurement', (options: MeasureOptions) => measureMachine(kernels, options));
