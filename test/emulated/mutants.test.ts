import { expect, test } from 'vitest';
import { tryMutants } from '../checks/kernel-mutants.mjs';
import { allMutants } from '../checks/kernel-tests/mutants.mjs';

const COMPILES_AND_RUNS_MS = 600_000;

// A sample; `npm run test:mutants` tries all of them.
test(
  'a removed barrier, a bound that is off by one, an exchanged fragment, a missing scale are noticed',
  async () => {
    const sample = (await allMutants()).filter(({ inSample }) => inSample);
    expect(sample.length).toBeGreaterThan(5);
    const outcomes = await tryMutants(sample, { env: process.env });
    expect(outcomes.filter(({ isNoticed }) => !isNoticed).map(({ mutant }) => mutant.name)).toEqual([]);
  },
  COMPILES_AND_RUNS_MS,
);
