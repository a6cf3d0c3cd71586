/** True in continuous integration, which has every case, and in `npm run test:emulated -- --all`. */
export const HAS_ALL_CASES = process.env.ALL_CASES === '1' || process.env.EMULATED_TESTS === 'all';

/** The cases of a table that `npm test` has: the first ones. Continuous integration has all. */
export function usualCases<Case>(cases: readonly Case[], usual: number): readonly Case[] {
  return HAS_ALL_CASES ? cases : cases.slice(0, usual);
}

/** Every second case of a table whose neighbours are alike, as families are by name. Continuous integration has all. */
export function everySecond<Case>(cases: readonly Case[]): readonly Case[] {
  return HAS_ALL_CASES ? cases : cases.filter((_, index) => index % 2 === 0);
}

/** Whether suites of layers and trainings leave out cases: on the emulated card, but for `npm run test:emulated -- --all`. */
export const HAS_FEW_CASES = process.env.ENGINE === 'cuda' && process.env.EMULATED_TESTS !== 'all';

/** The kernels with which suites of layers and trainings run: without all cases those of a trainer. The suites of ops have both. */
export const TESTED_KERNELS: readonly ('fused' | 'raw')[] =
  HAS_ALL_CASES && !HAS_FEW_CASES ? ['fused', 'raw'] : ['fused'];
