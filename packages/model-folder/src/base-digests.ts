import type { AdapterManifest } from '@lorasmith/contracts';
import { digestArchitecture } from './architecture-digest.js';
import type { ModelFolder } from './model-folder.js';
import { digestWeights } from './weight-digest.js';

type MadeFor = Pick<AdapterManifest['base_model'], 'weights_sha256' | 'architecture_sha256'>;

/** What tells one base model from another, as manifests and checkpoints name it. */
export type BaseDigests = Required<MadeFor>;

/** @throws as {@link digestWeights} */
export async function digestBase(model: ModelFolder, options: { signal?: AbortSignal } = {}): Promise<BaseDigests> {
  return {
    weights_sha256: await digestWeights(model, options),
    architecture_sha256: digestArchitecture(model.architecture),
  };
}

/**
 * What has changed of a base model since something was made for it; null: nothing.
 * @param made - Without an architecture, which it did not always have: only the weights are compared.
 */
export function baseDifference(made: MadeFor, now: BaseDigests): 'weights' | 'config.json' | null {
  if (made.weights_sha256 !== now.weights_sha256) return 'weights';
  const { architecture_sha256: architecture = now.architecture_sha256 } = made;
  return architecture === now.architecture_sha256 ? null : 'config.json';
}
