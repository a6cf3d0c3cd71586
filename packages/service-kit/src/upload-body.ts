import type { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';

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

/** Passes chunks on. @throws ProductError `body_too_large` beyond `maxBytes`; errors of the chunks */
export async function* bounded(chunks: AsyncIterable<Buffer>, maxBytes: number, what: string): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw bodyTooLarge(maxBytes, what);
    yield chunk;
  }
}

/** The sender disconnected. */
export function uploadBroken(cause?: unknown): ProductError {
  return new ProductError('invalid_request', 'The upload is incomplete: its sender disconnected.', { cause });
}

export function bodyTooLarge(maxBytes: number, what: string): ProductError {
  return new ProductError('body_too_large', `The ${what} is larger than the limit of ${maxBytes} bytes.`);
}
