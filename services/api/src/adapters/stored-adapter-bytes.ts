import { AdapterUsage, type Owner, ProductError } from '@lorasmith/contracts';
import { callerHeaders } from '@lorasmith/service-kit';
import { Value } from 'typebox/value';
import type { StoredBytes } from '../access/byte-quota.js';

const TIMEOUT_MS = 5_000;

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
    if (answer.ok && Value.Check(AdapterUsage, usage)) return { own: usage.own_bytes, total: usage.total_bytes };
  } catch (cause) {
    throw new ProductError('registry_unavailable', 'The registry cannot be reached. Try again in a moment.', { cause });
  }
  throw new ProductError('registry_unavailable', 'The registry does not answer as it should.');
}
