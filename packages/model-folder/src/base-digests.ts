import { createHash } from 'node:crypto';
import type { AdapterManifest } from '@lorasmith/contracts';
import type { Architecture } from './architecture.js';
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

/** Which part of the base model differs from `recorded`; null if none. */
export function baseDifference(recorded: BaseDigests, current: BaseDigests): 'weights' | 'config.json' | null {
  if (recorded.weights_sha256 !== current.weights_sha256) return 'weights';
  return recorded.architecture_sha256 === current.architecture_sha256 ? null : 'config.json';
}

/** Fields that do not change the model's outputs: they affect tokenization, the end of a text, or warnings. */
const IGNORED_FIELDS = ['bosTokenId', 'eosTokenIds', 'padTokenId', 'maxPositions', 'ignoredDropout'];

/**
 * A digest of the settings that affect the model's outputs, such as the norm's epsilon or the rotary positions.
 *
 * Checkpoints and manifests store the digest, so every release must compute the same one. Keys are sorted, and null counts
 * as absent: when you add a field, let null mean the previous behaviour.
 *
 * @returns sha256, hexadecimal
 */
export function digestArchitecture(architecture: Architecture): string {
  const included = Object.fromEntries(
    Object.entries(architecture).filter(([field]) => !IGNORED_FIELDS.includes(field)),
  );
  const canonical = JSON.stringify(included, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    const fields = Object.entries(node).filter(([, value]) => value !== null);
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)));
  });
  return createHash('sha256').update(canonical).digest('hex');
}
