import { configureKernels, measureMachine } from '@lorasmith/training';
import { answerAndEnd } from '../answer-and-end.js';
import { endWithoutGpu } from './end-without-gpu.js';

// Runs once, in a process of its own that gives all its memory back.
endWithoutGpu();
configureKernels('fused');
answerAndEnd(await measureMachine());
