import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false };

/** The speed of a machine in one precision. */
export const MachineRates = Type.Object(
  {
    matmul_gflops: Type.Number({ exclusiveMinimum: 0, description: 'Matrix products, 10⁹ operations a second.' }),
    attention_gflops: Type.Number({ exclusiveMinimum: 0, description: 'Attention, forward and backward.' }),
    pass_gbytes: Type.Number({ exclusiveMinimum: 0, description: 'Element-wise passes, 10⁹ bytes a second.' }),
    layer_overhead_ms: Type.Number({
      minimum: 0,
      description: 'Overhead of a layer, forward and backward, whatever its size.',
    }),
  },
  closed,
);
export type MachineRates = Static<typeof MachineRates>;

/** The measured profile of a worker's machine, on which estimates are based. */
export const MachineProfile = Type.Object(
  {
    worker: Type.String(),
    measured_at: Type.String(),
    processor: Type.String({ description: 'Model name, cores and kernels in use.' }),
    memory_bytes: Type.Integer({
      minimum: 0,
      description:
        'Memory available to a trainer: of the GPU if it trains on one, otherwise of the container or the machine.',
    }),
    base_memory_bytes: Type.Integer({
      minimum: 0,
      description: 'Memory that a trainer takes before it loads a model.',
    }),
    rates: Type.Object({ float32: MachineRates, bfloat16: MachineRates }, closed),
  },
  { $id: 'MachineProfile', ...closed },
);
export type MachineProfile = Static<typeof MachineProfile>;
