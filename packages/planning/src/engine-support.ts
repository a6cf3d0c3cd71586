import { type EngineKind, ProductError } from '@lorasmith/contracts';
import { type DecoderArchitecture, headsOf, type ModelFolder } from '@lorasmith/model-folder';
import { mixerWithoutKernels } from './estimate/layer-kinds/mixer-estimates.js';

/**
 * The widest heads of attention: on the CUDA engine those of its kernels (GREATEST_HEAD_DIM of packages/tensor), in TensorFlow's
 * own ops those whose memory the estimate is compared with.
 */
const GREATEST_HEAD_DIM = { cuda: 512, tensorflow: 256 } as const;

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
  const part = mixerWithoutKernels(architecture, engine);
  if (part !== null) return part;
  const sizes = architecture.layers.map((_, layer) => headsOf(architecture, layer).headDim);
  const largest = Math.max(...sizes);
  return largest > GREATEST_HEAD_DIM[engine] ? `the attention with heads of ${largest} numbers` : null;
}
