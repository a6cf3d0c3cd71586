/** True in continuous integration, which has every case, and in `npm run test:emulated -- --all`. */
export const HAS_ALL_CASES = process.env.ALL_CASES === '1' || process.env.EMULATED_TESTS === 'all';

/** The cases of a table that `npm test` has: the first ones. Continuous integration has all. */
export function usualCases<Case>(cases: readonly Case[], usual: number): readonly Case[] {
  return HAS_ALL_CASES ? cases : cases.slice(0, usual);
}

/** A fixture of test/fixtures/families for each structure that a decoder may have. */
const STRUCTURES = {
  plain: 'ernie4_5-no-bias',
  biases: 'arcee',
  windows: 'mistral-window',
  'soft caps': 'gemma2',
  'partial rotation': 'glm4',
  'rotation that depends on the length': 'rope-longrope',
  'norms of queries and keys': 'qwen3',
  'keys that are values': 'gemma4-text-keys',
  latent: 'deepseek_v3',
  linear: 'qwen3_5-text',
  sparse: 'qwen3_moe-experts',
  sinks: 'gpt_oss',
  'per-layer inputs': 'gemma4-text',
  multipliers: 'granite',
  'an adapted output head': 'head-tied',
  'stored transposed': 'gpt2',
  composites: 'mistral3',
} as const;

const STRUCTURE_NAMES: ReadonlySet<string> = new Set(Object.values(STRUCTURES));

/** The fixtures of families, one for each structure of a decoder: those that `npm test` has. Continuous integration has all. */
export function oneOfEachStructure(families: readonly string[]): readonly string[] {
  return HAS_ALL_CASES ? families : families.filter((name) => STRUCTURE_NAMES.has(name));
}

/** True if suites of layers and trainings leave out cases: on the emulated card, but for `npm run test:emulated -- --all`. */
export const HAS_FEW_CASES = process.env.ENGINE === 'cuda' && process.env.EMULATED_TESTS !== 'all';

/** The kernels with which suites of layers and trainings run: without all cases those of a trainer. The suites of ops have both. */
export const TESTED_KERNELS: readonly ('fused' | 'raw')[] =
  HAS_ALL_CASES && !HAS_FEW_CASES ? ['fused', 'raw'] : ['fused'];

/**
 * Fixtures of families, each with the kernels that it is tested with: those of a trainer, and for one of each structure in continuous
 * integration TensorFlow's own, too. Ops differ by structure and not by family.
 */
export function familiesByKernels(families: readonly string[]): readonly { name: string; kernels: 'fused' | 'raw' }[] {
  return oneOfEachStructure(families).flatMap((name) =>
    TESTED_KERNELS.filter((kernels) => kernels === 'fused' || STRUCTURE_NAMES.has(name)).map((kernels) => ({
      name,
      kernels,
    })),
  );
}

/**
 * The kernels of whole trainings in one process: those of a trainer. In continuous integration, whose trainers have these in many tests,
 * TensorFlow's own.
 */
export const WHOLE_TRAININGS: 'fused' | 'raw' = HAS_ALL_CASES ? 'raw' : 'fused';
