// npm run test:growth [-- PARTS…]: the work of each CUDA kernel at a size and at twice the size, counted on the emulated card. PARTS: of
// names of cases, of which the others are left out. Ends with 1 if a kernel's work grows faster than it may.

import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { setUp } from '../../scripts/setup.mjs';
import { table } from '../bench/tables.mjs';
import { growthFaults, growthOf, measureGrowth } from './kernel-growth/kernel-growth.mjs';

const parts = process.argv.slice(2);
try {
  await setUp({ cuda: 'emulated', redis: false });
  const measured = await measureGrowth({ env: process.env, parts });
  const { kernels, growths } = measured;
  const rows = growths
    .toSorted((a, b) => a.kernel.localeCompare(b.kernel))
    .map((growth) => [
      ...[growth.kernel, growth.name, `${growth.size} ${growth.doubled}`, String(growth.once), String(growth.twice)],
      ...[growthOf(growth).toFixed(2), String(growth.most)],
    ]);
  console.log(table(['kernel', 'case', 'size', 'work', 'at twice the size', 'growth', 'allowed'], rows));
  const faults = growthFaults(parts.length === 0 ? measured : { kernels: [], withoutSize: {}, growths });
  for (const fault of faults) console.log(fault);
  const launched = new Set(growths.map(({ kernel }) => kernel)).size;
  console.log(`kernels: ${kernels.length}, launched ${launched}; faults: ${faults.length}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
} catch (error) {
  console.error(describeFailure(error));
  process.exitCode = 1;
}
