import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { EXCLUDED_FILES, OWN_FILES, SUITE_FILES } from './emulated-files.js';

// `npm run test:emulated`: the engine's suites on the CUDA engine, with an emulated driver and cuBLASLt. Each kernel is the one
// that a GPU gets, run by the CPU, which takes ten to a hundred times as long as the CPU's own ops. The engine reads its
// environment in C++, so it is set here, before processes for tests start.
process.env.ENGINE = 'cuda';
process.env.CUDA_LIBRARY_DIR ??= fileURLToPath(new URL('../../packages/tensor/native/build/emulated', import.meta.url));
process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    setupFiles: 'test/processor-time.ts',
    exclude: EXCLUDED_FILES,
    pool: 'forks',
    maxWorkers: 2,
    // Only what hangs takes so long.
    testTimeout: 900_000,
    hookTimeout: 900_000,
    // In this order: the own files take longest, and nothing would run beside the last of them.
    projects: [
      { extends: true, test: { name: 'card', include: OWN_FILES } },
      { extends: true, test: { name: 'suites', include: SUITE_FILES } },
    ],
  },
});
