import { fileURLToPath } from 'node:url';

// Import this before anything of packages/tensor: the process then computes on the emulated GPU, which npm test compiles.

process.env.ENGINE = 'cuda';
process.env.CUDA_LIBRARY_DIR = fileURLToPath(new URL('../native/build/emulated', import.meta.url));
