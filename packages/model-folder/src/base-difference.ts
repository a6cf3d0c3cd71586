import type { AdapterManifest } from '@lorasmith/contracts';

type Digests = Pick<AdapterManifest['base_model'], 'weights_sha256' | 'architecture_sha256'>;

/**
 * What has changed of a base model since something was made for it; null: nothing.
 * @param made - Without an architecture, which it did not always have: only the weights are compared.
 */
export function baseDifference(made: Digests, now: Required<Digests>): 'weights' | 'config.json' | null {
  if (made.weights_sha256 !== now.weights_sha256) return 'weights';
  const { architecture_sha256: architecture = now.architecture_sha256 } = made;
  return architecture === now.architecture_sha256 ? null : 'config.json';
}
