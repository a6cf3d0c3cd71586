import { describe, expect, it } from 'vitest';
import { type Answer, failure, serve } from '../test/http-server.js';
import { createClient } from './client.js';

const BYTES = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 251));

/** Answers with the bytes from the asked range on, and breaks the connection after some of them. */
const part =
  (cutAfter: number | null, etag = '"one"'): Answer =>
  (response, { headers }) => {
    const from = Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
    const wanted = headers['if-range'] === undefined || headers['if-range'] === etag ? from : 0;
    const rest = BYTES.subarray(wanted);
    response.writeHead(wanted > 0 ? 206 : 200, { 'content-length': rest.length, etag });
    if (cutAfter === null) response.end(rest);
    else response.write(rest.subarray(0, cutAfter), () => response.destroy());
  };

async function received(...answers: Answer[]) {
  const server = await serve(...answers);
  const client = createClient({ baseUrl: server.baseUrl });
  const { totalBytes, chunks } = await client.streamAdapter('ad_1', { weights: 'merged' });
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return { totalBytes, bytes: Buffer.concat(parts), requests: server.requests };
}

describe('a streamed download', () => {
  it('is continued from the byte where its connection was lost', async () => {
    const { totalBytes, bytes, requests } = await received(part(4_000), part(3_000), part(null));
    expect(totalBytes).toBe(BYTES.length);
    expect(bytes.equals(BYTES)).toBe(true);
    expect(requests.map(({ url, headers }) => [url, headers.range, headers['if-range']])).toEqual([
      ['/adapters/ad_1?weights=merged', undefined, undefined],
      ['/adapters/ad_1?weights=merged', 'bytes=4000-', '"one"'],
      ['/adapters/ad_1?weights=merged', 'bytes=7000-', '"one"'],
    ]);
  });

  it('ends when the file has changed meanwhile', async () => {
    await expect(received(part(4_000), part(null, '"two"'))).rejects.toMatchObject({ code: 'conflict' });
  });

  it('ends with an error of the service', async () => {
    await expect(received(failure(404, 'adapter_not_found'))).rejects.toMatchObject({ code: 'adapter_not_found' });
    await expect(received(part(4_000), failure(404, 'adapter_not_found'))).rejects.toMatchObject({
      code: 'adapter_not_found',
    });
  });
});
