import { answerParent } from '@lorasmith/child-processes';
import { configureKernels, type MeasureOptions, measureMachine } from '@lorasmith/training';
import { endWithoutGpu } from './end-without-gpu.js';
import { trainerKernels } from './trainer-arguments.js';

endWithoutGpu();
configureKernels(...trainerKernels());
answerParent('measurement', (options: MeasureOptions) => measureMachine(options));
