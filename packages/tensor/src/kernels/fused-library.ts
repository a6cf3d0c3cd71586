import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

// The compiled ops of native/: one pass over memory where TensorFlow's own ops need many.

const BUILD_FOLDER = new URL('../../native/build/', import.meta.url);

const AVX512 = ['avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'];

/** The instruction sets for which a library may be compiled, best first, and the flags of /proc/cpuinfo that each needs. Set-up has the same. */
export const INSTRUCTION_SETS = {
  avx512bf16: [...AVX512, 'avx512_bf16'],
  avx512: AVX512,
  avx2: ['avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe'],
  generic: [],
} as const satisfies Record<string, readonly string[]>;

export type InstructionSet = keyof typeof INSTRUCTION_SETS;

const flags = processorFlags();

let loaded: InstructionSet | null = null;

/** True if the processor has the instructions that a fused library needs. */
export function processorRuns(instructionSet: InstructionSet): boolean {
  return INSTRUCTION_SETS[instructionSet].every((flag) => flags.has(flag));
}

/**
 * Loads a fused library into TensorFlow's registry. A process can load one: later calls return the first.
 * @param wanted default: the best that the processor runs
 * @returns the one that is loaded; null when none was compiled
 */
export function loadFusedLibrary(wanted?: InstructionSet): InstructionSet | null {
  if (loaded !== null) return loaded;
  for (const name of Object.keys(INSTRUCTION_SETS) as InstructionSet[]) {
    const file = fileURLToPath(new URL(`${name}.node`, BUILD_FOLDER));
    if ((wanted ?? name) !== name || !processorRuns(name) || !existsSync(file)) continue;
    createRequire(import.meta.url)(file);
    loaded = name;
    break;
  }
  return loaded;
}

function processorFlags(): Set<string> {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    return new Set(line?.[1]?.trim().split(/\s+/));
  } catch {
    return new Set();
  }
}
