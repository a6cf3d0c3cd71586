import { type EngineKind, ProductError } from '@lorasmith/contracts';
import { type DecoderArchitecture, headsOf, type ModelFolder } from '@lorasmith/model-folder';

/** The greatest size of a head that attention has kernels for: GREATEST_HEAD_DIM of packages/tensor. */
const GREATEST_HEAD_DIM = 256;

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
  const part = partWithoutKernels(architecture);
  if (part === null) return;
  const message =
    `The engine ${engine} has no kernels for ${part} of ${name} (${architecture.family}). ` +
    'Processors have: run a worker with ENGINE=cpu.';
  throw new ProductError('model_not_supported', message, { param: 'base_model' });
}

/** The part of a model that engines for GPUs have no kernels for; null: they have them for all. */
function partWithoutKernels(architecture: DecoderArchitecture): string | null {
  if (architecture.linearAttention !== null) return 'the linear attention';
  const sizes = architecture.attention.layers.map((_, layer) => headsOf(architecture, layer).headDim);
  const largest = Math.max(...sizes);
  return largest > GREATEST_HEAD_DIM ? `the attention with heads of ${largest} numbers` : null;
}
