import type { MachineProfile } from '@lorasmith/contracts';
import { LOGITS_PER_CHUNK } from '@lorasmith/model-folder';

type Precision = 'float32' | 'bfloat16';
type EngineKind = MachineProfile['engine']['kind'];

/** The properties of an engine that its memory depends on. */
export interface EngineMemory {
  /**
   * True if fused ops compute the steps between products. Without them, TensorFlow's own ops keep several float32 copies of the
   * largest tensors of a layer, and scores of attention.
   */
  fused: boolean;
  /** True if tokenizer, plan and the rest of the JavaScript heap are in the memory that is planned. */
  countsProcess: boolean;
  /** True if memory that one part of a pass frees serves the next, whatever the sizes. */
  reuses: boolean;
  /**
   * True if linear attention has the gradients of all states of a row at once, and heads of the kernels' sizes. Processors go
   * through a row chunk by chunk.
   */
  keepsStateGradients: boolean;
  /** Bytes that the allocator takes for a byte of frozen weights, which stay. */
  weightSlack: number;
  /** Bytes that the allocator takes for every other byte. */
  slack: number;
}

/** The share of the blocks of the driver's pool that serve no request, until it is measured on a card. */
const CUDA_FRAGMENTS = 1.03;
/**
 * The share by which the CUDA engine rounds requests up, see allocateExactly of packages/tensor: 0 to 12.5 %, and for sizes that are spread evenly on
 * a logarithmic scale (1/16)(1 - 1/2)/ln 2 = 4.5 % on average. The widths of a layer of 8 · 10⁹ parameters have the same mean over
 * passes of 64 to 16,384 tokens, 8.1 % in one of twenty, and 10.4 % at most.
 */
const CUDA_CLASSES = 1.045;

const ENGINES: Record<EngineKind, EngineMemory> = {
  cpu: {
    fused: true,
    countsProcess: true,
    reuses: false,
    keepsStateGradients: false,
    weightSlack: 1.08,
    slack: 1.08,
  },
  cuda: {
    fused: true,
    countsProcess: false,
    reuses: true,
    keepsStateGradients: true,
    weightSlack: CUDA_FRAGMENTS,
    slack: CUDA_FRAGMENTS * CUDA_CLASSES,
  },
  tensorflow: {
    fused: false,
    countsProcess: false,
    reuses: true,
    keepsStateGradients: false,
    weightSlack: 1.1,
    slack: 1.1,
  },
};

/** The properties of a machine's engine. If the self-test of a card rejected a fused op, those of the op that replaces it. */
export function engineMemory({ kind, self_test: tested }: MachineProfile['engine']): EngineMemory {
  const engine = ENGINES[kind];
  if (tested?.kernels === 'raw') return { ...engine, fused: false, keepsStateGradients: false };
  return { ...engine, fused: engine.fused && (tested?.avoided_kernels.length ?? 0) === 0 };
}

/** Bytes of the logits, their gradient and the copies of both, for each logit of a chunk. */
export function bytesPerLogit({ fused }: EngineMemory, precision: Precision): number {
  if (precision === 'float32') return 8;
  return fused ? 4 : 12;
}

/** Share of a GPU's memory for the logits of a chunk. */
const LOGITS_SHARE = 1 / 64;

/**
 * The logits that a decoder computes at a time. On a GPU they are many: each chunk is some launches, and products of many
 * rows are faster.
 * @param machine null: it was not measured
 */
export function logitsPerChunk(machine: MachineProfile | null, precision: Precision): number {
  if (machine === null || machine.engine.kind === 'cpu') return LOGITS_PER_CHUNK;
  const fitting = (machine.memory_bytes * LOGITS_SHARE) / bytesPerLogit(engineMemory(machine.engine), precision);
  return Math.max(LOGITS_PER_CHUNK, Math.floor(fitting));
}
