import { cast, type KernelSet, scope, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import type { NumericCase } from '@lorasmith/tensor/numeric-cases';
import { engineError } from '../engine-error.js';

/** The numbers that a case computed. */
export type SelfTestValues = Readonly<Record<string, Float32Array>>;

/** The outcome of a case in one process: its numbers, or the error. */
export interface ComputedCase extends Omit<NumericCase, 'compute'> {
  values: SelfTestValues | null;
  /** Whether the second run gave the same, bit for bit. */
  isRepeatable: boolean;
  error: string | null;
}

/** Computes a case `runs` times. An error is a result, too: a kernel that cannot be launched is one that failed. */
export async function computeCase(
  { name, subject, tolerance, compute }: NumericCase,
  kernels: KernelSet,
  runs: 1 | 2,
): Promise<ComputedCase> {
  const described = { name, subject, tolerance };
  try {
    const values = await valuesOf(compute, kernels);
    const again = runs === 1 ? values : await valuesOf(compute, kernels);
    return { ...described, values, isRepeatable: isSame(values, again), error: null };
  } catch (error) {
    const cause = engineError(error);
    const message = cause instanceof Error ? cause.message : String(cause);
    return { ...described, values: null, isRepeatable: false, error: message };
  }
}

async function valuesOf(compute: NumericCase['compute'], kernels: KernelSet): Promise<SelfTestValues> {
  let later: Promise<SelfTestValues> | null = null;
  const values = scope(() => {
    const computed = compute(kernels);
    if (computed instanceof Promise) {
      later = computed;
      return {};
    }
    const entries = Object.entries(computed as Readonly<Record<string, Tensor>>);
    return Object.fromEntries(entries.map(([name, tensor]) => [name, toFloat32Array(cast(tensor, 'float32'))]));
  });
  return later ?? values;
}

function isSame(values: SelfTestValues, others: SelfTestValues): boolean {
  return Object.entries(values).every(([name, numbers]) => {
    const other = others[name];
    return other !== undefined && bytesOf(numbers).equals(bytesOf(other));
  });
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
