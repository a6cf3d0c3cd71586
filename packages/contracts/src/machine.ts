import { type Static, Type } from 'typebox';
import { closed, Nullable } from './schema-parts.js';

/** The speed of a machine in one precision. */
export const MachineRates = Type.Object(
  {
    matmul_gflops: Type.Number({
      exclusiveMinimum: 0,
      description: 'Matrix products, 10⁹ operations a second, beyond the reading of weights.',
    }),
    attention_gflops: Type.Number({ exclusiveMinimum: 0, description: 'Attention, forward and backward.' }),
    weight_gbytes: Type.Number({
      exclusiveMinimum: 0,
      description: 'Weights that products of few rows read, 10⁹ bytes a second.',
    }),
    pass_gbytes: Type.Number({ exclusiveMinimum: 0, description: 'Element-wise passes, 10⁹ bytes a second.' }),
    layer_overhead_ms: Type.Number({
      minimum: 0,
      description: 'Overhead of a layer, forward and backward, whatever its size.',
    }),
  },
  closed,
);
export type MachineRates = Static<typeof MachineRates>;

/** The kernels that an engine is trusted with: fused ones, or none of them. */
export const KERNEL_SOURCES = ['fused', 'raw'] as const;
export type KernelSource = (typeof KERNEL_SOURCES)[number];

/** The comparison of the CUDA engine on a card with the CPU. */
export const SelfTest = Type.Object(
  {
    tested_at: Type.String(),
    seconds: Type.Number({ minimum: 0 }),
    cases: Type.Integer({ minimum: 0, description: 'Computations that were compared with the CPU.' }),
    failed: Type.Array(
      Type.Object(
        {
          case: Type.String({ description: 'What was computed.' }),
          fault: Type.String({ description: 'How it differs.' }),
        },
        closed,
      ),
    ),
    kernels: Type.Enum([...KERNEL_SOURCES], {
      description:
        'fused: fused kernels, but for the avoided ones; raw: plain ops only, since a training step is right with them and wrong with fused kernels.',
    }),
    avoided_kernels: Type.Array(Type.String(), {
      description:
        'Fused kernels that are wrong on this card and replaced by plain ops, such as `rmsNorm:bfloat16`. With `kernels: raw` all others are replaced, too.',
    }),
    distrust: Nullable(Type.String(), { description: 'Why nothing is trained with this engine; null: it is trusted.' }),
  },
  { $id: 'SelfTest', ...closed },
);
export type SelfTest = Static<typeof SelfTest>;

/** The GPU that a worker trains on. */
export const Card = Type.Object(
  {
    name: Type.String({ description: 'Such as `NVIDIA A10G`.' }),
    uuid: Type.String({ description: 'Such as `GPU-8f6b2c1e-…`.' }),
    compute_capability: Nullable(Type.String(), { description: 'Such as `8.6`; null where the driver does not say.' }),
    driver: Nullable(Type.String(), { description: 'Version of the driver; null where it does not say.' }),
    memory_bytes: Type.Integer({ minimum: 0 }),
  },
  { $id: 'Card', ...closed },
);
export type Card = Static<typeof Card>;

export const ENGINE_KINDS = ['cpu', 'cuda', 'tensorflow'] as const;

/** The engine that a worker computes with. */
export const MachineEngine = Type.Object(
  {
    kind: Type.Enum([...ENGINE_KINDS], {
      description:
        "cpu; cuda: Lorasmith's own kernels on the GPU; tensorflow: the GPU build of TensorFlow, without fused kernels.",
    }),
    card: Nullable(Card),
    self_test: Nullable(SelfTest, { description: 'Of the CUDA engine on this card.' }),
  },
  { $id: 'MachineEngine', ...closed },
);
export type MachineEngine = Static<typeof MachineEngine>;
export type EngineKind = MachineEngine['kind'];

/** The libraries of fused kernels; the last is none. */
export const MACHINE_KERNELS = ['avx512bf16', 'avx512', 'avx2', 'generic', 'cuda', 'tensorflow'] as const;
export type MachineKernels = (typeof MACHINE_KERNELS)[number];

/** The measured profile of a worker's machine, on which estimates are based. */
export const MachineProfile = Type.Object(
  {
    worker: Type.String(),
    measured_at: Type.String(),
    processor: Type.String({ description: 'Model name, cores and kernels in use.' }),
    kernels: Type.Enum(MACHINE_KERNELS, {
      description:
        'The fused kernels in use: those for an instruction set of the processor, best first; cuda: those of a GPU; tensorflow: none.',
    }),
    memory_bytes: Type.Integer({
      minimum: 0,
      description:
        'Memory available to a trainer: of the GPU if it trains on one, otherwise of the container or the machine.',
    }),
    base_memory_bytes: Type.Integer({
      minimum: 0,
      description: 'Memory that a trainer takes before it loads a model.',
    }),
    pass_tokens: Type.Integer({
      minimum: 1,
      description: 'Tokens of several jobs in one pass through the base model: PASS_TOKENS, or what suits the machine.',
    }),
    rates: Type.Object(
      {
        float32: MachineRates,
        bfloat16: Nullable(MachineRates, {
          description: 'null: the GPU has no bfloat16, which it has from compute capability 8.0 on.',
        }),
      },
      closed,
    ),
    engine: MachineEngine,
  },
  { $id: 'MachineProfile', ...closed },
);
export type MachineProfile = Static<typeof MachineProfile>;

const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description });
const usedMemory = {
  memory_used_bytes: Type.Integer({ minimum: 0 }),
  memory_total_bytes: Type.Integer({ minimum: 0 }),
};

/** A reading of how busy a machine is. */
export const MachineLoad = Type.Object(
  {
    read_at: Type.String(),
    processor_busy: share('Share of the time of all cores in use since the reading before, from 0 to 1.'),
    ...usedMemory,
    card: Nullable(Type.Object({ busy: share("The driver's utilization, from 0 to 1."), ...usedMemory }, closed), {
      description: 'Null without a GPU, and where the driver does not say.',
    }),
  },
  { $id: 'MachineLoad', ...closed },
);
export type MachineLoad = Static<typeof MachineLoad>;

/** A machine with what its worker does now. */
export const Machine = Type.Object(
  {
    ...MachineProfile.properties,
    running: Nullable(
      Type.Object(
        {
          jobs: Type.Integer({ minimum: 0, description: 'Jobs that it trains, of all keys.' }),
          jobs_at_once: Type.Integer({ minimum: 1, description: 'The most that it trains at the same time.' }),
          load: Nullable(MachineLoad, { description: 'About the last seconds; null before the first reading.' }),
        },
        closed,
      ),
      { description: 'Null: the worker does not run.' },
    ),
  },
  { $id: 'Machine', ...closed },
);
export type Machine = Static<typeof Machine>;

/** Answer of `GET /machines`. */
export const MachineList = Type.Object({ data: Type.Array(Machine) }, { $id: 'MachineList', ...closed });
export type MachineList = Static<typeof MachineList>;
