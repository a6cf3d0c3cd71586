import type { BaseModel, Machine } from '@lorasmith/contracts';

/** A verdict on a base model and the memory of a machine: it fits as it is, it fits quantized to 4 bits, or it does not. */
export type ModelFit = 'fits' | 'fits-in-4-bits' | 'too-large';

/** A rule of thumb for a row of 2,048 tokens with rank 16, in bytes: for each parameter of the model, and in addition. */
const NEEDED = {
  float32: { perParameter: 4.8, beside: 1.5e9 },
  bfloat16: { perParameter: 2.4, beside: 1.5e9 },
  fp8: { perParameter: 1.4, beside: 2e9 },
  nf4: { perParameter: 1, beside: 3e9 },
} as const;

type StoredAs = keyof typeof NEEDED;

/** Fused kernels of processors that have no fast products in bfloat16: a job on them is in float32. */
const FLOAT32_KERNELS: readonly Machine['kernels'][] = ['avx512', 'avx2', 'generic'];

/**
 * The fit of a base model on a machine, about: the report of a job is exact.
 * @returns null where the size of the model or the machine is unknown
 */
export function fitOf(
  { parameters, dtype = null }: { parameters: number | null; dtype?: BaseModel['dtype'] },
  machine: Pick<Machine, 'memory_bytes' | 'kernels' | 'rates'> | undefined,
): ModelFit | null {
  if (parameters === null || machine === undefined) return null;
  const fitsAs = (stored: StoredAs) => {
    const { perParameter, beside } = NEEDED[stored];
    return parameters * perParameter + beside <= machine.memory_bytes;
  };
  const isFloat32 = FLOAT32_KERNELS.includes(machine.kernels) || machine.rates.bfloat16 === null;
  if (dtype === 'nf4' || dtype === 'fp4') return fitsAs('nf4') ? 'fits' : 'too-large';
  if (fitsAs(dtype === 'fp8' ? 'fp8' : isFloat32 ? 'float32' : 'bfloat16')) return 'fits';
  return fitsAs('nf4') ? 'fits-in-4-bits' : 'too-large';
}

/** The machine with the most memory, of those that run if any does. */
export function largestMachine<One extends Pick<Machine, 'memory_bytes' | 'running'>>(
  machines: readonly One[],
): One | undefined {
  const running = machines.filter((one) => one.running !== null);
  return (running.length > 0 ? running : machines).toSorted((one, other) => other.memory_bytes - one.memory_bytes)[0];
}

/** The same as text. */
export const FIT_TEXTS: Readonly<Record<ModelFit, string>> = {
  fits: 'fits this machine',
  'fits-in-4-bits': 'fits in 4 bits',
  'too-large': 'too large for this machine',
};
