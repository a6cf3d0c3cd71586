import { readFileSync } from 'node:fs';

const AVX512 = ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

/**
 * The instruction sets for which the fused ops are compiled, best first, by architecture of the processor: the flags of /proc/cpuinfo that
 * each needs (packages/tensor has the same), and those of the compiler.
 *
 * @type {Partial<Record<NodeJS.Architecture, Record<string, { processor: string[], compiler: string[] }>>>}
 */
export const INSTRUCTION_SETS = {
  x64: {
    avx512bf16: {
      processor: [...AVX512, 'avx512_bf16'],
      compiler: ['-march=x86-64-v4', '-mavx512bf16', '-mprefer-vector-width=512'],
    },
    avx512: { processor: AVX512, compiler: ['-march=x86-64-v4', '-mprefer-vector-width=512'] },
    avx2: { processor: ['avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe'], compiler: ['-march=x86-64-v3'] },
    generic: { processor: [], compiler: [] },
  },
  arm64: { generic: { processor: [], compiler: [] } },
};

/**
 * The best instruction set that this processor runs.
 *
 * @param {string} [cpuinfo] default: that of this machine
 * @returns {string | undefined} undefined on an architecture without one
 */
export function ownInstructionSet(cpuinfo = readCpuinfo()) {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
  const sets = Object.entries(INSTRUCTION_SETS[process.arch] ?? {});
  return sets.find(([, { processor }]) => processor.every((flag) => flags.has(flag)))?.[0];
}

function readCpuinfo() {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}
