import type { MachineProfile } from '@lorasmith/contracts';
import { LOGITS_PER_CHUNK } from '@lorasmith/model-folder';

type Precision = 'float32' | 'bfloat16';
type EngineKind = MachineProfile['engine']['kind'];

/** How an engine uses memory. */
export interface EngineMemory {
  /**
   * Whether fused ops compute what lies between products. Without them, TensorFlow's own ops hold several float32 copies of
   * the largest tensors of a layer, and scores of attention.
   */
  fused: boolean;
  /** Whether tokenizer, plan and the rest of the JavaScript heap are in the memory that is planned. */
  holdsProcess: boolean;
  /** Whether what one part of a pass frees serves the next, whatever the sizes. */
  reuses: boolean;
  /**
   * Whether linear attention has the gradients of all states of a row at once, and heads of the kernels' sizes. Processors go
   * through a row chunk by chunk.
   */
  holdsDeltaGradients: boolean;
  /** The share that the allocator holds beyond the requests. */
  slack: number;
}

const ENGINES: Record<EngineKind, EngineMemory> = {
  cpu: { fused: true, holdsProcess: true, reuses: false, holdsDeltaGradients: false, slack: 1.08 },
  // The driver's pool maps pages where they are needed, so what it holds is not fragmented.
  cuda: { fused: true, holdsProcess: false, reuses: true, holdsDeltaGradients: true, slack: 1.03 },
  tensorflow: { fused: false, holdsProcess: false, reuses: true, holdsDeltaGradients: false, slack: 1.1 },
};

/** Where one fused op is wrong on a card, what replaces it decides. */
export function engineMemory({ kind, self_test: tested }: MachineProfile['engine']): EngineMemory {
  const engine = ENGINES[kind];
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
