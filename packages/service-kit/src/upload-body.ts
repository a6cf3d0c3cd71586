import type { Readable } from 'node:stream';
import { bounded, ProductError } from '@lorasmith/contracts';

/**
 * The body of an upload as it arrives.
 *
 * @param what - The kind of body, for messages: file, tar
 * @throws ProductError `body_too_large` beyond `maxBytes`, `invalid_request` if the sender disconnects
 */
export async function* boundedChunks(stream: Readable, maxBytes: number, what: string): AsyncGenerator<Buffer> {
  try {
    // Destroying the request would close its connection before the answer is sent.
    yield* bounded(stream.iterator({ destroyOnReturn: false }), maxBytes, what);
  } catch (error) {
    if (error instanceof ProductError) throw error;
    throw uploadBroken(error);
  }
}

/** The sender disconnected. */
export function uploadBroken(cause?: unknown): ProductError {
  return new ProductError('invalid_request', 'The upload is incomplete: its sender disconnected.', { cause });
}
