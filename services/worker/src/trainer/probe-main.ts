import { answerParent } from '@lorasmith/child-processes';
import { chooseKernels, engine, type MeasureOptions, measureMachine } from '@lorasmith/training';
import { endWithoutGpu, trainerKernels } from './trainer-program.js';

endWithoutGpu(engine);
const kernels = chooseKernels(...trainerKernels());
answerParent('measurement', (options: MeasureOptions) => measureMachine(kernels, options));
