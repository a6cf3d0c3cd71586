import { defineConfig } from 'vitest/config';
import { LOST_CARDS } from './test/faults/fault-files.js';

/**
 * Tests of parts that load no engine: files share a process, which loads the sources once. They leave nothing behind in it: no
 * variable of the environment, no global, no handler. Two files measure the memory of their process, or replace its exit.
 */
const ALONE = '!(line-splitter|shutdown)';
const SHARED = [
  `packages/{artifacts,client,contracts,gguf,job-store}/{src,test}/**/${ALONE}.test.ts`,
  `packages/{base-models,export,generation-queue,model-folder,page,peft-files,planning}/{src,test}/**/${ALONE}.test.ts`,
  `packages/{redis,safetensors,seeded-random,service-kit,storage}/{src,test}/**/${ALONE}.test.ts`,
  `services/{api,registry}/{src,test}/**/${ALONE}.test.ts`,
];

// The fault suite, the API fuzzer and the emulated card have their own commands.
const OTHER_SUITES = ['**/node_modules/**', 'test/faults/**', LOST_CARDS, 'test/fuzz-api/**', 'test/emulated/**'];

/** These load the engine, which computes on every core. */
const ENGINE = 'packages/{tensor,models,lora,training}/{src,test}/**/*.test.ts';

// Tests run on the TypeScript sources (the "source" export condition). The native addon is not safe in worker threads, so test
// files run in processes. What mostly waits for services and child processes runs first, three files at once; then the engine's.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    env: { TF_CPP_MIN_LOG_LEVEL: '2' },
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // For conditions that become true eventually. Vitest's default is one second.
    expect: { poll: { timeout: 20_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'processes',
          include: ['packages/*/{src,test}/**/*.test.ts', 'services/*/{src,test}/**/*.test.ts', 'test/**/*.test.ts'],
          exclude: [...OTHER_SUITES, ...SHARED, ENGINE],
          globalSetup: 'test/global-setup.ts',
          maxWorkers: 3,
        },
      },
      {
        extends: true,
        test: { name: 'shared', include: SHARED, exclude: OTHER_SUITES, isolate: false, maxWorkers: 3 },
      },
      {
        extends: true,
        test: {
          name: 'engine',
          include: [ENGINE],
          exclude: OTHER_SUITES,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
