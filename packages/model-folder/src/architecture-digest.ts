import { createHash } from 'node:crypto';
import type { Architecture } from './architecture.js';

/** They have a say in what text becomes and where it ends, or only in a warning; not in what the model computes of a text. */
const NOT_COMPUTED = ['bosTokenId', 'eosTokenIds', 'padTokenId', 'maxPositions', 'ignoredDropout'];

/**
 * Changes when a model would compute something else with the same weights: another epsilon, other rotary positions.
 *
 * Checkpoints and manifests keep it, so it must outlast versions: keys are sorted, and what is null counts as not there.
 * A field that is new gets null where models do as they did before.
 *
 * @returns sha256, hexadecimal
 */
export function digestArchitecture(architecture: Architecture): string {
  const computed = Object.fromEntries(Object.entries(architecture).filter(([field]) => !NOT_COMPUTED.includes(field)));
  const canonical = JSON.stringify(computed, (_key, node: unknown) => {
    if (typeof node !== 'object' || node === null || Array.isArray(node)) return node;
    const fields = Object.entries(node).filter(([, value]) => value !== null);
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)));
  });
  return createHash('sha256').update(canonical).digest('hex');
}
