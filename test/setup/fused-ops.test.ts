import { expect, test } from 'vitest';
import { INSTRUCTION_SETS as LOADED } from '../../packages/tensor/src/kernels/fused-library.js';
import { INSTRUCTION_SETS, ownInstructionSet } from '../../scripts/setup/fused-ops.mjs';

test('set-up compiles the instruction sets that the engine looks for', () => {
  const compiled = Object.entries(INSTRUCTION_SETS.x64!).map(([name, { processor }]) => [name, processor]);
  expect(compiled).toEqual(Object.entries(LOADED));
});

const AVX512 = LOADED.avx512.join(' ');

test.runIf(process.arch === 'x64').each([
  ['', 'generic'],
  ['flags\t\t: fpu sse2 avx2', 'generic'],
  [`flags\t\t: fpu ${LOADED.avx2.join(' ')} avx512f`, 'avx2'],
  [`flags\t\t: ${LOADED.avx2.join(' ')} ${AVX512}\nbugs\t\t: avx512_bf16`, 'avx512'],
  [`processor\t: 0\nflags\t\t: ${LOADED.avx2.join(' ')} ${AVX512} avx512_bf16\n`, 'avx512bf16'],
])('of a processor with %j it compiles %s', (cpuinfo, name) => {
  expect(ownInstructionSet(cpuinfo)).toBe(name);
});
