import { type EngineKind, ProductError } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';

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
  if (engine === 'cpu' || architecture.kind !== 'decoder' || architecture.linearAttention === null) return;
  const message =
    `The engine ${engine} has no kernels for the linear attention of ${name} (${architecture.family}). ` +
    'Processors have: run a worker with ENGINE=cpu.';
  throw new ProductError('model_not_supported', message, { param: 'base_model' });
}
