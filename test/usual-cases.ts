/** True in continuous integration, which has every case. */
export const HAS_ALL_CASES = process.env.ALL_CASES === '1';

/** The cases of a table that `npm test` has: the first ones. Continuous integration has all. */
export function usualCases<Case>(cases: readonly Case[], usual: number): readonly Case[] {
  return HAS_ALL_CASES ? cases : cases.slice(0, usual);
}
