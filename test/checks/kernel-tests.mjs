// npm run test:kernels [-- [--variant orders|addresses|races] [NAMES…]]: the CUDA kernels, in the emulation, against plain loops
// in double precision. NAMES: parts of the names of tests.

import { describeFailure } from '../../scripts/setup/run-steps.mjs';
import { runKernelTests, VARIANTS } from './kernel-tests/kernel-test-program.mjs';

const names = process.argv.slice(2);
const at = names.indexOf('--variant');
const only = at < 0 ? null : names.splice(at, 2)[1];
try {
  for (const [name, variant] of Object.entries(VARIANTS)) {
    if (only !== null && only !== name) continue;
    console.log(`\nKernel tests: ${name}`);
    const { passed, output } = await runKernelTests(variant, { env: process.env, names });
    console.log(output);
    if (!passed) process.exitCode = 1;
  }
} catch (error) {
  console.error(describeFailure(error));
  process.exitCode = 1;
}
