import { defineConfig } from 'vitest/config';
import { LOST_CARDS } from './test/faults/fault-files.js';

// Tests run on the TypeScript sources (the "source" export condition). The native addon is not safe in worker
// threads, so test files run in processes; two at most, since TensorFlow takes every core it finds.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    include: ['packages/*/{src,test}/**/*.test.ts', 'services/*/{src,test}/**/*.test.ts', 'test/**/*.test.ts'],
    // The fault suite, the API fuzzer and the emulated card have their own commands.
    exclude: ['**/node_modules/**', 'test/faults/**', LOST_CARDS, 'test/fuzz-api/**', 'test/emulated/**'],
    globalSetup: 'test/global-setup.ts',
    env: { TF_CPP_MIN_LOG_LEVEL: '2' },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // For conditions that become true eventually. Vitest's default is one second.
    expect: { poll: { timeout: 20_000 } },
  },
});
