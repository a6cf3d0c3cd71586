import { ProductError } from '@lorasmith/contracts';
import { ApiError } from './api-error.js';
import { bodyChunks, type HttpTransport, sleep, unreachable } from './http-transport.js';

export interface DownloadSource {
  path: string;
  query: Record<string, string>;
}

/** A download that has begun. */
export interface DownloadStream {
  /** Null: the service did not say. */
  totalBytes: number | null;
  /** All bytes, in order. A lost connection is continued from the next byte. */
  chunks: AsyncGenerator<Uint8Array, void, undefined>;
}

/** Connections in a row that bring nothing. */
const MAX_FRUITLESS = 6;
const FIRST_DELAY_MS = 500;

/**
 * Begins a download without a file system, for a browser. Resolves when the service has begun to answer, which for a merged
 * model is when it has been computed.
 *
 * @throws ApiError; ProductError `service_unavailable` when connections bring nothing any more, `conflict` when the file
 *   changes meanwhile
 */
export async function streamDownload(
  transport: HttpTransport,
  { path, query }: DownloadSource,
  signal?: AbortSignal,
): Promise<DownloadStream> {
  const ask = (headers: Record<string, string>) =>
    transport.request({ method: 'GET', path, query, headers, signal, timeoutMs: null });
  const first = await ask({});
  const length = first.headers.get('content-length');
  const totalBytes = length === null ? null : Number(length);
  const etag = first.headers.get('etag');

  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    let response = first;
    let received = 0;
    for (let fruitless = 0; ; ) {
      const before = received;
      try {
        for await (const chunk of bodyChunks(response, signal)) {
          received += chunk.length;
          yield chunk;
        }
        if (totalBytes === null || received >= totalBytes) return;
        throw new ProductError('service_unavailable', 'The connection ended before the download was complete.');
      } catch (error) {
        signal?.throwIfAborted();
        fruitless = received > before ? 1 : fruitless + 1;
        if (etag === null || fruitless > MAX_FRUITLESS || error instanceof ApiError) {
          throw unreachable(transport.origin, error);
        }
      }
      response = await continued(received, fruitless);
    }
  }

  const continued = async (received: number, attempt: number): Promise<Response> => {
    await sleep(FIRST_DELAY_MS * 2 ** (attempt - 1), signal);
    const response = await ask({ range: `bytes=${received}-`, 'if-range': etag! });
    if (response.status === 206) return response;
    await response.body?.cancel();
    throw new ProductError('conflict', 'The file changed while it was downloaded. Download it again.');
  };
  return { totalBytes, chunks: chunks() };
}
