import type { MachineProfile, MachineRates } from '../packages/contracts/src/index.js';

/** Rates of a machine in one precision. */
export const RATES: MachineRates = {
  matmul_gflops: 100,
  attention_gflops: 50,
  weight_gbytes: 5,
  pass_gbytes: 5,
  layer_overhead_ms: 1,
};

/** A machine with a processor, as a worker publishes it, with these changes. */
export function aMachine(changes: Partial<MachineProfile> = {}): MachineProfile {
  return {
    worker: 'a-worker',
    measured_at: '2026-01-01T00:00:00Z',
    processor: 'a test',
    kernels: 'avx512bf16',
    memory_bytes: 16e9,
    base_memory_bytes: 0.4e9,
    pass_tokens: 1024,
    rates: { float32: RATES, bfloat16: RATES },
    engine: { kind: 'cpu', card: null, self_test: null },
    ...changes,
  };
}
