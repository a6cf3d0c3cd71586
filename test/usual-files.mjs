// Which test files `npm test` runs. Continuous integration runs all of them (ALL_CASES=1), and a file that is named runs always.

/** Tests of the repository itself: files, and folders with their last slash. `npm run check` has them. */
export const OF_THE_REPOSITORY = [
  'test/browser-bundle.test.ts',
  'test/compose-files.test.ts',
  'test/docs.test.ts',
  'test/docstrings.test.ts',
  'test/helm-chart.test.ts',
  'test/monitoring.test.ts',
  'test/package-dependencies.test.ts',
  'test/release.test.ts',
  'test/gpu-check/',
  'test/setup/',
  'test/stack/',
  'test/test-files.test.ts',
];

/**
 * Tests of whole processes beyond one flow each of job, cancel and resume, sweep, chat, import and merge, and a browser; tests of tests; and
 * tables of inputs, of which the routes' own tests have the usual ones.
 */
export const IN_CI_ALONE = [
  'test/{families,from-outside,from-scratch,logs-keep-secrets,names,openai-clients,openai-import,operating,published,quantized,readme,real-redis,start-up,sweep-example,tinker-client,training-loop-example,watch-example}.test.ts',
  'test/browser/page-{comparisons,for-everyone,keys,many-jobs,objectives,outcomes,start,sweeps,uploads,without-worker}.test.ts',
  'test/{fuzz-readers,hostile,self-test}/**/*.test.ts',
  'services/worker/test/{compiled-trainer,several-runs,worker,worker-process}.test.ts',
  'services/registry/test/{hostile-tars,import-bounds}.test.ts',
  'packages/planning/test/memory.test.ts',
  'packages/training/src/{smollm2,wrong-variants}.test.ts',
  'packages/tensor/test/fused-kernels-*.test.ts',
];
