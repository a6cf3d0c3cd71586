import { type EngineKind, ProductError } from '@lorasmith/contracts';
import { type DecoderArchitecture, headsOf, type LinearAttention, type ModelFolder } from '@lorasmith/model-folder';

/**
 * The widest heads of attention: on the CUDA engine those of its kernels (GREATEST_HEAD_DIM of packages/tensor), in TensorFlow's
 * own ops those whose memory the estimate is compared with.
 */
const GREATEST_HEAD_DIM = { cuda: 512, tensorflow: 256 } as const;

/** The widest heads and longest convolutions that the CUDA engine has kernels for: packages/tensor/native/cuda/host. */
const CUDA_HEAD_SIZES = [64, 128] as const;
const CUDA_TAPS = 8;

/** The size of the CUDA kernels that hold a head of linear attention; undefined where it is too wide. */
export function cudaHeadSize({ keyHeadDim, valueHeadDim }: LinearAttention): number | undefined {
  return CUDA_HEAD_SIZES.find((size) => Math.max(keyHeadDim, valueHeadDim) <= size);
}

/**
 * Checks that an engine has kernels for all parts of a model. Without them it would compute the right numbers, but too slowly to
 * be of use.
 *
 * @throws ProductError model_not_supported
 */
export function checkEngineSupports(
  engine: EngineKind,
  { name, architecture }: Pick<ModelFolder, 'name' | 'architecture'>,
): void {
  if (engine === 'cpu' || architecture.kind !== 'decoder') return;
  const part = partWithoutKernels(engine, architecture);
  if (part === null) return;
  const message =
    `The engine ${engine} has no kernels for ${part} of ${name} (${architecture.family}). ` +
    'Processors have: run a worker with ENGINE=cpu.';
  throw new ProductError('model_not_supported', message, { param: 'base_model' });
}

/** The part of a model that an engine for GPUs has no kernels for; null: it has them for all. */
function partWithoutKernels(engine: 'cuda' | 'tensorflow', architecture: DecoderArchitecture): string | null {
  const { linearAttention } = architecture;
  if (linearAttention !== null && engine !== 'cuda') return 'the linear attention';
  if (linearAttention !== null) {
    const { keyHeadDim, valueHeadDim, convolutionTaps } = linearAttention;
    if (cudaHeadSize(linearAttention) === undefined) {
      return `the linear attention with heads of ${keyHeadDim} by ${valueHeadDim} numbers`;
    }
    if (convolutionTaps > CUDA_TAPS) return `the convolution over ${convolutionTaps} tokens`;
  }
  const sizes = architecture.attention.layers.map((_, layer) => headsOf(architecture, layer).headDim);
  const largest = Math.max(...sizes);
  return largest > GREATEST_HEAD_DIM[engine] ? `the attention with heads of ${largest} numbers` : null;
}
