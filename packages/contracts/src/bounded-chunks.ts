import { ProductError } from './error.js';

/**
 * Passes chunks of bytes on.
 * @param what - What the bytes are, for messages: file, tar
 * @throws ProductError `body_too_large` beyond `maxBytes`; errors of the chunks
 */
export async function* bounded<Chunk extends Uint8Array>(
  chunks: AsyncIterable<Chunk>,
  maxBytes: number,
  what: string,
): AsyncGenerator<Chunk> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw bodyTooLarge(maxBytes, what);
    yield chunk;
  }
}

export function bodyTooLarge(maxBytes: number, what: string): ProductError {
  return new ProductError('body_too_large', `The ${what} is larger than the limit of ${maxBytes} bytes.`);
}
