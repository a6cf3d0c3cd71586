import type { AdapterManifest } from '@lorasmith/contracts';
import { digestArchitecture } from './architecture-digest.js';
import type { ModelFolder } from './model-folder.js';
import { digestWeights } from './weight-digest.js';

/** Identifies a base model in manifests and checkpoints. */
export type BaseDigests = Pick<AdapterManifest['base_model'], 'weights_sha256' | 'architecture_sha256'>;

/** @throws as {@link digestWeights} */
export async function digestBase(model: ModelFolder, options: { signal?: AbortSignal } = {}): Promise<BaseDigests> {
  return {
    weights_sha256: await digestWeights(model, options),
    architecture_sha256: digestArchitecture(model.architecture),
  };
}

/** The part of a base model that has changed since something was made for it, or null. */
export function baseDifference(made: BaseDigests, now: BaseDigests): 'weights' | 'config.json' | null {
  if (made.weights_sha256 !== now.weights_sha256) return 'weights';
  return made.architecture_sha256 === now.architecture_sha256 ? null : 'config.json';
}
