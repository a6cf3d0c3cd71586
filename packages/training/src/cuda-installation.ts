/** An entry for the worker, which must not load the engine: importing this does not. */
export * from '@lorasmith/tensor/cuda-installation';
