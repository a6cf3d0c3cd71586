import { type AdapterId, AdapterUsage, type Owner, ProductError } from '@lorasmith/contracts';
import { callerHeaders, EVERYTHING } from '@lorasmith/service-kit';
import { Value } from 'typebox/value';
import type { StoredBytes } from '../access/byte-quota.js';

const TIMEOUT_MS = 5_000;

/**
 * Removes an adapter that nobody was told of yet.
 * @throws ProductError `registry_unavailable`
 */
export async function removeAdapter(registryUrl: string, id: AdapterId): Promise<void> {
  const answer = await fetch(new URL(`/adapters/${id}`, registryUrl), {
    method: 'DELETE',
    headers: callerHeaders(EVERYTHING),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((cause: unknown) => {
    throw new ProductError('registry_unavailable', 'The registry cannot be reached. Try again in a moment.', { cause });
  });
  await answer.body?.cancel();
  if (!answer.ok) throw new ProductError('registry_unavailable', "The registry's answer is not valid.");
}

/**
 * What the registry has of the owner, and in all.
 * @throws ProductError `registry_unavailable`
 */
export async function storedAdapterBytes(registryUrl: string, owner: Owner): Promise<StoredBytes> {
  try {
    const answer = await fetch(new URL('/usage', registryUrl), {
      headers: callerHeaders({ sees: 'all', owner }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const usage: unknown = await answer.json();
    if (answer.ok && Value.Check(AdapterUsage, usage)) {
      const things = { own: usage.own_adapters, total: usage.total_adapters };
      return { own: usage.own_bytes, total: usage.total_bytes, things };
    }
  } catch (cause) {
    throw new ProductError('registry_unavailable', 'The registry cannot be reached. Try again in a moment.', { cause });
  }
  throw new ProductError('registry_unavailable', "The registry's answer is not valid.");
}
