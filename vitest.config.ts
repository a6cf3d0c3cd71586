import { defineConfig } from 'vitest/config';
import { ON_THE_CARD } from './test/emulated/emulated-files.js';
import { LOST_CARDS } from './test/faults/fault-files.js';
import { IN_CI_ALONE, OF_THE_REPOSITORY } from './test/usual-files.mjs';

/** These load the engine, which computes on every core. */
const ENGINE = 'packages/{tensor,models,training}/**/*.test.ts';

/** These load a library of ops other than the processor's own: the choice is a process's. */
const OTHER_LIBRARIES = 'packages/tensor/test/fused-kernels-*.test.ts';

/** `vitest run FILE…` names files. */
const areNamed = process.argv.slice(3).some((argument) => !argument.startsWith('-'));
const LEFT_OUT =
  process.env.ALL_CASES === '1' || areNamed
    ? []
    : [...IN_CI_ALONE, ...OF_THE_REPOSITORY.map((path) => path.replace(/\/$/, '/**'))];

// The fault suite, the API fuzzer and the emulated card have their own commands.
const OTHER_SUITES = [
  '**/node_modules/**',
  'test/faults/**',
  LOST_CARDS,
  'test/fuzz-api/**',
  ...ON_THE_CARD,
  ...LEFT_OUT,
];

/** These measure the memory of their process, replace its exit, or load a native addon. */
const ALONE = [
  '**/{line-splitter,shutdown,card-lock}.test.ts',
  'packages/child-processes/**/*.test.ts',
  'packages/weight-files/src/*.test.ts',
  'services/worker/test/**/*.test.ts',
];

/** TEST_SEED: files run in a random order of this seed. (`--sequence` of the command would replace the groups below.) */
const seed = process.env.TEST_SEED;
const ORDER = seed === undefined ? {} : { shuffle: { files: true, tests: false }, seed: Number(seed) };

/** Beside the source: neither an engine, a service nor Redis. `npm run test:fast` */
const FAST = '{packages,services}/*/src/**/*.test.ts';

// Tests run on the TypeScript sources (the "source" export condition). The native addon is not safe in worker threads, so test
// files run in processes. What mostly waits for services and child processes runs first, three files at once; then the engine's.
//
// Files of `fast`, `shared` and `engine` share a process, which loads the sources once. They leave nothing behind in it: no
// variable of the environment, no global, no handler.
export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] } },
  test: {
    env: { TF_CPP_MIN_LOG_LEVEL: '2' },
    setupFiles: 'test/processor-time.ts',
    pool: 'forks',
    // Only what hangs takes so long: a busy machine may be twenty times slower.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 120_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'processes',
          include: ['test/**/*.test.ts', ...ALONE],
          exclude: [...OTHER_SUITES, ENGINE],
          globalSetup: 'test/global-setup.ts',
          maxWorkers: 3,
          sequence: ORDER,
        },
      },
      {
        extends: true,
        test: {
          name: 'shared',
          include: ['{packages,services}/*/test/**/*.test.ts'],
          exclude: [...OTHER_SUITES, ...ALONE, ENGINE],
          globalSetup: 'test/global-setup.ts',
          isolate: false,
          maxWorkers: 3,
          sequence: ORDER,
        },
      },
      {
        extends: true,
        test: {
          name: 'fast',
          include: [FAST],
          exclude: [...OTHER_SUITES, ...ALONE, ENGINE],
          isolate: false,
          maxWorkers: 3,
          sequence: ORDER,
        },
      },
      {
        extends: true,
        test: {
          name: 'engine',
          include: [ENGINE],
          exclude: [...OTHER_SUITES, OTHER_LIBRARIES],
          isolate: false,
          maxWorkers: 2,
          sequence: { ...ORDER, groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'libraries',
          include: [OTHER_LIBRARIES],
          exclude: OTHER_SUITES,
          maxWorkers: 2,
          sequence: { ...ORDER, groupOrder: 1 },
        },
      },
    ],
  },
});
