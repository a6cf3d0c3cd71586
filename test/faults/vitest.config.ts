import { defineConfig } from 'vitest/config';
import { LOST_CARDS } from './fault-files.js';

// `npm run test:faults`: breaks the compiled services on purpose. It needs set-up and compiled packages.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    setupFiles: 'test/processor-time.ts',
    include: ['test/faults/**/*.test.ts', LOST_CARDS],
    globalSetup: 'test/faults/global-setup.ts',
    pool: 'forks',
    // The tests mostly wait until locks expire and processes start.
    maxWorkers: 3,
    // A busy machine may be ten times slower. The waiting functions have their own time-outs with messages.
    testTimeout: 900_000,
    hookTimeout: 600_000,
  },
});
