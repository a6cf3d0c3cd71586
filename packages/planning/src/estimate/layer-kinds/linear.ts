import { type LinearAttention, linearAttentionSizes } from '@lorasmith/model-folder';
import type { EngineMemory } from '../engine-memory.js';
import { isAdapted, type MixerEstimate } from './mixer-estimate.js';

/** Tokens between two states that are kept: DELTA_CHUNK of packages/tensor. */
const STATE_TOKENS = 64;

/** The widest heads and longest convolutions that the CUDA engine has kernels for: packages/tensor/native/cuda/host. */
const CUDA_HEAD_SIZES = [64, 128] as const;
const CUDA_TAPS = 8;

/** The size of the CUDA kernels that fit a head; undefined where it is too wide. */
function cudaHeadSize({ keyHeadDim, valueHeadDim }: LinearAttention): number | undefined {
  return CUDA_HEAD_SIZES.find((size) => Math.max(keyHeadDim, valueHeadDim) <= size);
}

/** Bytes per token of the states that are kept. */
function keptStates(own: LinearAttention, engine: EngineMemory): number {
  const { keyHeadDim, valueHeadDim, valueHeadCount } = own;
  const size = engine.keepsStateGradients ? cudaHeadSize(own)! ** 2 : keyHeadDim * valueHeadDim;
  return (4 * valueHeadCount * size) / STATE_TOKENS;
}

export const linearEstimate: MixerEstimate<LinearAttention> = {
  saved(own, context) {
    const { architecture, engine, width } = context;
    const { mixed, values } = linearAttentionSizes(own);
    const kept = mixed + 2 * values + 2 * own.valueHeadCount;
    const adapted = isAdapted(context, architecture.names.linearAttention!.output) ? values : 0;
    return width * (kept + adapted) + keptStates(own, engine);
  },

  /**
   * Queries and keys in float32. On processors in addition their gradients of each value head, and those by the convolution's sums; on a GPU
   * three vectors of each value head and the gradients by its states.
   */
  transient(own, { engine, width }) {
    const { mixed, values } = linearAttentionSizes(own);
    const { keyHeadCount, valueHeadCount, keyHeadDim } = own;
    const transient = width * (4 * mixed + 4 * values);
    if (engine.keepsStateGradients) {
      const vectors = (2 * keyHeadCount + 3 * valueHeadCount) * cudaHeadSize(own)!;
      return 4 * (vectors + 2 * valueHeadCount) + keptStates(own, engine) + transient;
    }
    return 4 * (2 * (keyHeadCount + valueHeadCount) * keyHeadDim + mixed) + transient;
  },

  gradients: () => 0,

  repeated(own, { engine, width }, { mostRepeated = 0 }) {
    const { mixed, values } = linearAttentionSizes(own);
    return { kept: mostRepeated * keptStates(own, engine), transient: width * (mixed + values) };
  },

  /** A state is read twice and changed twice. */
  operations: ({ valueHeadCount, keyHeadDim, valueHeadDim }) => ({
    scores: 0,
    states: 2 * valueHeadCount * keyHeadDim * valueHeadDim,
  }),

  withoutKernels(own, engine) {
    if (engine !== 'cuda') return 'the linear attention';
    const { keyHeadDim, valueHeadDim, convolutionTaps } = own;
    if (cudaHeadSize(own) === undefined) {
      return `the linear attention with heads of ${keyHeadDim} by ${valueHeadDim} numbers`;
    }
    return convolutionTaps > CUDA_TAPS ? `the convolution over ${convolutionTaps} tokens` : null;
  },
};
