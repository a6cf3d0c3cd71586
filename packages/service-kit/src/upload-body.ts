import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Maximum bytes that are read of the rest of a refused body, so that the sender can read the answer. */
const DRAIN_BYTES = 32 * 1024 * 1024;
/** Maximum time to read the rest. A sender that announced more than it sends waits this long for its answer. */
const DRAIN_MS = 1_500;

/**
 * The body of an upload as it arrives.
 *
 * @param what - The kind of body, for messages: file, tar
 * @throws ProductError `body_too_large` beyond `maxBytes`, `invalid_request` if the sender disconnects
 */
export async function* boundedChunks(stream: Readable, maxBytes: number, what: string): AsyncGenerator<Buffer> {
  let bytes = 0;
  try {
    // Destroying the request would close its connection before the answer is sent.
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw bodyTooLarge(maxBytes, what);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ProductError) throw error;
    throw uploadBroken(error);
  }
}

/** The sender disconnected. */
export function uploadBroken(cause?: unknown): ProductError {
  return new ProductError('invalid_request', 'The upload is incomplete: its sender disconnected.', { cause });
}

export function bodyTooLarge(maxBytes: number, what: string): ProductError {
  return new ProductError('body_too_large', `The ${what} is larger than the limit of ${maxBytes} bytes.`);
}

/** Reads the rest of a refused body for a limited time: many senders read the answer only after they have sent the body. */
export async function drainBody(raw: Readable): Promise<void> {
  if (raw.readableEnded || raw.destroyed) return;
  let bytes = 0;
  const enough = new AbortController();
  raw.unpipe();
  raw.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > DRAIN_BYTES) enough.abort();
  });
  for (const event of ['end', 'close', 'error']) raw.once(event, () => enough.abort());
  raw.resume();
  await sleep(DRAIN_MS, undefined, { signal: enough.signal }).catch(() => {});
}

/** Drains the body of a request that was refused before its body was read, and closes the connection after the answer. */
export async function endUpload(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  await drainBody(request.raw);
  reply.header('connection', 'close');
}
