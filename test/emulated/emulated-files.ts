/** Tests that only this engine can have. */
export const OWN_FILES = ['test/emulated/**/*.test.ts', 'services/worker/test/self-test.test.ts'];

/** Tests that no other suite has. */
export const ON_THE_CARD = [
  ...OWN_FILES,
  'packages/tensor/test/{cuda-*,emulated-driver}.test.ts',
  'packages/training/test/emulated-*.test.ts',
];

/** The engine's suites. What they expect of an engine holds for every one. */
export const SUITE_FILES = ['packages/{tensor,models,training}/**/*.test.ts'];

/** The CPU's own libraries, and what no engine is needed for. */
export const NOT_OF_THIS_ENGINE = [
  'packages/models/src/generation/sampling.test.ts',
  'packages/tensor/test/fused-kernels-*.test.ts',
  'packages/tensor/src/tensor.test.ts',
  'packages/training/src/evaluation.test.ts',
  'packages/training/src/save-policy.test.ts',
  'packages/training/src/publishing/probe-texts.test.ts',
];

/** Too slow for every `npm test`: `npm run test:emulated -- --all` runs them. */
export const SLOW = [
  // Finite differences of attention: kernels are tested against loops in double precision, ops against PyTorch's results.
  'packages/tensor/src/kernels/attention.test.ts',
  'packages/tensor/src/kernels/grouped-attention.test.ts',
  // The same references and trainings as on the CPU: each op, each family, steps and whole jobs are compared in the other
  // suites.
  'packages/training/src/check-reference/check-folder.test.ts',
  'packages/models/src/generation/generate-texts.test.ts',
  'packages/training/src/family-equality.test.ts',
  'packages/training/src/generation-equality.test.ts',
  'packages/training/src/pass-memory.test.ts',
  'packages/training/src/resume.test.ts',
  'packages/training/src/train.test.ts',
  // Rounding errors through 32 layers, whose bounds do not depend on the engine.
  'packages/training/src/publishing/check-merged.test.ts',
  'packages/training/src/objectives/group-relative/group-{example,training}.test.ts',
  'packages/training/src/objectives/group-relative/asked-rewards.test.ts',
  'packages/training/src/objectives/preference/preference-{example,training}.test.ts',
  'packages/training/src/sessions/training-session.test.ts',
  'packages/training/src/shared-pass/shared-training.test.ts',
  'packages/training/src/smollm2.test.ts',
];

/** The tests that `npm test` leaves to continuous integration: the card's own files run each kernel and train a whole job. */
export const LAYERS_AND_TRAININGS = [
  'packages/models/**',
  'packages/training/src/**',
  'packages/tensor/test/fused-kernels.test.ts',
];

/** Kernels with errors on purpose, which the kernel tests must notice: continuous integration alone tries them. */
export const MUTANTS = ['test/emulated/mutants.test.ts'];

const excluded: Record<string, string[]> = {
  all: [],
  usual: SLOW,
  kernels: [...SLOW, ...LAYERS_AND_TRAININGS, ...MUTANTS],
};

export const EXCLUDED_FILES = [
  '**/node_modules/**',
  ...NOT_OF_THIS_ENGINE,
  ...excluded[process.env.EMULATED_TESTS ?? 'usual']!,
];
