import { defineConfig } from 'vitest/config';

// `npm run test:faults`: the compiled services as they are run, broken on purpose. It needs set-up and compiled packages.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    include: ['test/faults/**/*.test.ts'],
    globalSetup: 'test/faults/global-setup.ts',
    pool: 'forks',
    // Much of each test is waiting for locks to run out and for processes to start.
    maxWorkers: 2,
    // A busy machine may be ten times slower; what waits says itself what it waited for.
    testTimeout: 900_000,
    hookTimeout: 600_000,
  },
});
