import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false };

/** What a machine does per second, in one precision. */
export const MachineRates = Type.Object(
  {
    matmul_gflops: Type.Number({ exclusiveMinimum: 0, description: 'Matrix products, 10⁹ operations a second.' }),
    attention_gflops: Type.Number({ exclusiveMinimum: 0, description: 'Attention, forward and backward.' }),
    pass_gbytes: Type.Number({ exclusiveMinimum: 0, description: 'Element-wise passes, 10⁹ bytes a second.' }),
    layer_overhead_ms: Type.Number({ minimum: 0, description: 'Of a layer, forward and backward, whatever its size.' }),
  },
  closed,
);
export type MachineRates = Static<typeof MachineRates>;

/** What a worker's machine was measured to do; estimates rest on it. */
export const MachineProfile = Type.Object(
  {
    worker: Type.String(),
    measured_at: Type.String(),
    processor: Type.String({ description: 'Model name, cores and kernels in use.' }),
    memory_bytes: Type.Integer({
      minimum: 0,
      description:
        'What a trainer may use: of the GPU where it trains on one, else of the container, else of the machine.',
    }),
    base_memory_bytes: Type.Integer({
      minimum: 0,
      description: 'Of it, what a trainer takes before it has a model.',
    }),
    rates: Type.Object({ float32: MachineRates, bfloat16: MachineRates }, closed),
  },
  { $id: 'MachineProfile', ...closed },
);
export type MachineProfile = Static<typeof MachineProfile>;
