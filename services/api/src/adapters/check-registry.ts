import { ProductError } from '@lorasmith/contracts';

const TIMEOUT_MS = 2_000;

/** @throws ProductError `registry_unavailable` when the registry does not answer */
export async function checkRegistry(registryUrl: string): Promise<void> {
  try {
    const answer = await fetch(new URL('/live', registryUrl), { signal: AbortSignal.timeout(TIMEOUT_MS) });
    await answer.body?.cancel();
    if (answer.ok) return;
  } catch (cause) {
    throw new ProductError('registry_unavailable', 'The registry cannot be reached.', { cause });
  }
  throw new ProductError('registry_unavailable', "The registry's answer is not valid.");
}
