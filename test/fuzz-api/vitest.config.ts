import { defineConfig } from 'vitest/config';

// `npm run fuzz:api`: an API fuzzer against the compiled services. It needs set-up and compiled packages.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    include: ['test/fuzz-api/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 7_200_000,
    hookTimeout: 120_000,
  },
});
