import { describe, expect, test } from 'vitest';
import { growthFaults, measureGrowth } from '../checks/kernel-growth.mjs';

// `npm run test:growth` prints the work of each kernel.

const COMPILES_AND_RUNS_MS = 900_000;

test(
  'twice the tokens are at most 2.2 times the work of each kernel, and 4.4 times that of attention to whole rows',
  async () => {
    const measured = await measureGrowth({ env: process.env });
    expect(measured.kernels.length).toBeGreaterThan(200);
    expect(growthFaults(measured)).toEqual([]);
  },
  COMPILES_AND_RUNS_MS,
);

describe('the check of growth', () => {
  const growth = (kernel: string, twice: number, most = 2.2) => ({
    ...{ kernel, name: 'a case', doubled: 'tokens', size: 512, once: 1000, twice, most },
  });

  test('accepts a kernel that grows with its tokens, whatever other cases have', () => {
    const growths = [growth('Add', 2100), growth('Add', 1000), growth('Attention', 4300, 4.4)];
    expect(growthFaults({ kernels: ['Add', 'Attention'], withoutSize: {}, growths })).toEqual([]);
  });

  test('names a kernel that grows too fast in any case', () => {
    const growths = [growth('Scatter', 2000), growth('Scatter', 3880)];
    expect(growthFaults({ kernels: ['Scatter'], withoutSize: {}, growths })).toEqual([
      'Scatter: 3.88 times the work (1000 → 3880) for 1024 tokens instead of 512; at most 2.2 times is allowed (a case)',
    ]);
  });

  test('names a kernel that no case launches, or at one size only, or whose size no case doubles', () => {
    const growths = [growth('Fixed', 1000), { ...growth('Late', 100), once: 0 }];
    const faults = growthFaults({ kernels: ['Never', 'Fixed', 'Late'], withoutSize: {}, growths });
    expect(faults.map((fault) => fault.split(':')[0]).sort()).toEqual(['Fixed', 'Late', 'Never']);
  });

  test('needs no growth of a kernel without a size, which must exist, be launched, and not grow', () => {
    const withoutSize = { Fixed: 'why', Grows: 'why', Gone: 'why', Never: 'why' };
    const growths = [growth('Fixed', 1000), growth('Grows', 2000)];
    const faults = growthFaults({ kernels: ['Fixed', 'Grows', 'Never'], withoutSize, growths });
    expect(faults).toEqual([
      'Never: no case of test/checks/kernel-growth/growth-cases.mjs shows how its work grows',
      'Grows: WITHOUT_SIZE names it, but it grows',
      'Gone: WITHOUT_SIZE names it, but it does not exist',
    ]);
  });
});
