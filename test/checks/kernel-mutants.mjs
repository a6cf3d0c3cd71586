// npm run test:mutants [-- PARTS…]: kernels with one error each, and what of the kernel tests notices it. PARTS: of names of files
// or errors. Ends with 1 if an error is not noticed that should be, or the other way round.

import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { allMutants } from './kernel-tests/mutants.mjs';
import { tryMutants } from './kernel-tests/try-mutants.mjs';

const parts = process.argv.slice(2);
try {
  const all = await allMutants();
  const chosen = all.filter(
    ({ file, name }) => parts.length === 0 || parts.some((part) => `${file}: ${name}`.includes(part)),
  );
  const outcomes = await tryMutants(chosen, {
    env: process.env,
    onOutcome: ({ mutant, isNoticed, how }) => {
      const expected = isNoticed === (mutant.unnoticed === null) ? '' : ' UNEXPECTED';
      const why = isNoticed ? how : (mutant.unnoticed ?? '');
      console.log(`${isNoticed ? 'noticed' : 'NOT noticed'}${expected}: ${mutant.file}: ${mutant.name} (${why})`);
    },
  });
  const unexpected = outcomes.filter(({ mutant, isNoticed }) => isNoticed !== (mutant.unnoticed === null));
  const noticed = outcomes.filter(({ isNoticed }) => isNoticed);
  console.log(`mutants: ${outcomes.length}, noticed ${noticed.length}, other than expected ${unexpected.length}`);
  process.exitCode = unexpected.length > 0 ? 1 : 0;
} catch (error) {
  console.error(describeFailure(error));
  process.exitCode = 1;
}
