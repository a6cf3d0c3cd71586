import { defineConfig } from 'vitest/config';

// `npm run test:s3`: the tests with a real S3 server, which the first run compiles.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    include: ['{packages,services}/*/test/**/*.s3.ts', 'test/several-hosts/**/*.s3.ts'],
    env: { TF_CPP_MIN_LOG_LEVEL: '2' },
    pool: 'forks',
    maxWorkers: 2,
    // A busy machine may be ten times slower.
    testTimeout: 120_000,
    // The first hook may compile the server.
    hookTimeout: 600_000,
  },
});
