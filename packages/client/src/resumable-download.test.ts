import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Answer, failure, serve } from '../test/http-server.js';
import { createHttpTransport } from './http-transport.js';
import { type DownloadOptions, type DownloadProgress, downloadToFile } from './resumable-download.js';

const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31) % 251));
const OTHER_CONTENT = Buffer.from(CONTENT.map((byte) => 255 - byte));
const etagOf = (content: Buffer) => `"${createHash('sha256').update(content).digest('hex')}"`;

/** Data that the client has not written when its connection is cut is lost. It may end the connection before. */
const isWritten = (bytes: number, response: ServerResponse) =>
  vi.waitUntil(
    async () => response.destroyed || (await stat(join(folder, 'a.tar.part')).catch(() => null))?.size === bytes,
    { timeout: 60_000 },
  );

/** Serves content with Range and If-Range as in RFC 9110. Cuts the connection after `cutAfter` bytes of the body. */
const file =
  (
    content: Buffer,
    {
      cutAfter = Number.POSITIVE_INFINITY,
      etag = etagOf(content) as string | null,
      length = true,
      cut = isWritten,
    } = {},
  ): Answer =>
  async (response, { headers }) => {
    const range = /^bytes=(\d+)-$/.exec(headers.range ?? '');
    const start = range !== null && headers['if-range'] === etag ? Number(range[1]) : 0;
    if (start > 0 && start >= content.length) {
      return failure(416, 'range_not_satisfiable')(response, { method: '', url: '', headers, body: '' });
    }
    const body = content.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, {
      ...(length ? { 'content-length': body.length } : {}),
      ...(etag === null ? {} : { etag }),
      ...(start > 0 ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {}),
    });
    if (cutAfter >= body.length) return void response.end(body);
    await new Promise((resolve) => response.write(body.subarray(0, cutAfter), resolve));
    await cut(start + cutAfter, response);
    response.destroy();
  };

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorasmith-download-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function download(baseUrl: string, options: DownloadOptions = {}): Promise<Buffer> {
  const source = { path: '/adapters/ad_1', query: { weights: 'merged' } };
  await downloadToFile(createHttpTransport({ baseUrl }), source, join(folder, 'a.tar'), {
    retryDelayMs: 1,
    ...options,
  });
  expect(await readdir(folder)).toEqual(['a.tar']);
  return await readFile(join(folder, 'a.tar'));
}

describe('downloadToFile', () => {
  it('continues where connections were cut, and reports the progress', async () => {
    const server = await serve(file(CONTENT, { cutAfter: 100_000 }), file(CONTENT, { cutAfter: 1 }), file(CONTENT));
    const progress: DownloadProgress[] = [];
    const bytes = await download(server.baseUrl, { onProgress: (one) => progress.push(one) });
    expect(bytes.equals(CONTENT)).toBe(true);
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([undefined, 'bytes=100000-', 'bytes=100001-']);
    expect(server.requests[0]).toMatchObject({
      url: '/adapters/ad_1?weights=merged',
      headers: { 'accept-encoding': 'identity' },
    });
    expect(progress.at(0)).toEqual({ receivedBytes: 0, totalBytes: CONTENT.length });
    expect(progress.at(-1)).toEqual({ receivedBytes: CONTENT.length, totalBytes: CONTENT.length });
  });

  it('continues the download of a process that died', async () => {
    const server = await serve(
      file(CONTENT, { cutAfter: 100_000 }),
      failure(503, 'registry_unavailable'),
      file(CONTENT),
    );
    await expect(download(server.baseUrl, { maxFailures: 2 })).rejects.toMatchObject({ code: 'registry_unavailable' });
    expect((await readdir(folder)).sort()).toEqual(['a.tar.part', 'a.tar.part.json']);
    expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
    expect(server.requests[2]?.headers).toMatchObject({ range: 'bytes=100000-', 'if-range': etagOf(CONTENT) });
  });

  it('restarts when the content has changed', async () => {
    const server = await serve(file(CONTENT, { cutAfter: 200_000 }), file(OTHER_CONTENT.subarray(0, 150_000)));
    expect((await download(server.baseUrl)).equals(OTHER_CONTENT.subarray(0, 150_000))).toBe(true);
  });

  it('restarts without a strong ETag, since the content may have changed', async () => {
    for (const etag of [null, 'W/"weak"']) {
      const server = await serve(file(CONTENT, { cutAfter: 100_000, etag }), file(CONTENT, { etag }));
      expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
      expect(server.requests[1]?.headers.range).toBeUndefined();
      await rm(join(folder, 'a.tar'));
    }
  });

  it('does not continue the part of another download, or one with a damaged note', async () => {
    const server = await serve(file(CONTENT));
    for (const note of ['{"source":"/adapters/ad_2?","etag":"\\"x\\"","totalBytes":3}', '{"sou']) {
      await writeFile(join(folder, 'a.tar.part'), 'abc');
      await writeFile(join(folder, 'a.tar.part.json'), note);
      expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
      expect(server.requests.at(-1)?.headers.range).toBeUndefined();
      await rm(join(folder, 'a.tar'));
    }
  });

  it('sends no request if only the last rename is missing', async () => {
    const server = await serve(file(OTHER_CONTENT));
    const source = '/adapters/ad_1?weights=merged';
    await writeFile(join(folder, 'a.tar.part'), CONTENT);
    const note = { source, etag: etagOf(CONTENT), totalBytes: CONTENT.length };
    await writeFile(join(folder, 'a.tar.part.json'), JSON.stringify(note));
    expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
    expect(server.requests).toHaveLength(0);
  });

  it('restarts when the part is longer than the content on the server', async () => {
    const server = await serve(file(CONTENT));
    const note = { source: '/adapters/ad_1?weights=merged', etag: etagOf(CONTENT), totalBytes: null };
    await writeFile(join(folder, 'a.tar.part'), Buffer.concat([CONTENT, CONTENT]));
    await writeFile(join(folder, 'a.tar.part.json'), JSON.stringify(note));
    expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
    expect(server.requests.map(({ headers }) => headers.range)).toEqual(['bytes=600000-', undefined]);
  });

  it('accepts an answer of unknown length', async () => {
    const server = await serve(file(CONTENT, { length: false }));
    expect((await download(server.baseUrl)).equals(CONTENT)).toBe(true);
  });

  it('leaves no incomplete file under the final name, and fails after the maximum number of tries', async () => {
    const server = await serve(file(CONTENT, { cutAfter: 10, etag: null }));
    await expect(download(server.baseUrl, { maxFailures: 3, signal: AbortSignal.timeout(300) })).rejects.toThrow();
    expect(await readdir(folder)).not.toContain('a.tar');

    const unavailable = await serve(failure(503, 'registry_unavailable'));
    await expect(download(unavailable.baseUrl, { maxFailures: 3 })).rejects.toMatchObject({
      code: 'registry_unavailable',
    });
    expect(unavailable.requests).toHaveLength(3);
  });

  it('throws at once when the server refuses', async () => {
    const server = await serve(failure(404, 'adapter_not_found'));
    await expect(download(server.baseUrl)).rejects.toMatchObject({ code: 'adapter_not_found' });
    expect(server.requests).toHaveLength(1);
    expect(await readdir(folder)).toEqual([]);
  });

  it('closes a silent connection and reconnects', async () => {
    const silent: Answer = (response) => {
      response.writeHead(200, { 'content-length': CONTENT.length, etag: etagOf(CONTENT) });
      response.write(CONTENT.subarray(0, 1000));
    };
    // On a busy machine the first bytes, too, may take longer than the limit.
    const server = await serve((response, request) =>
      (request.headers.range ? file(CONTENT) : silent)(response, request),
    );
    expect((await download(server.baseUrl, { idleTimeoutMs: 300 })).equals(CONTENT)).toBe(true);
    expect(server.requests.at(-1)?.headers.range).toBe('bytes=1000-');
  });

  it('leaves the right bytes after two concurrent downloads into one file', async () => {
    const atOnce = async () => true as const;
    const server = await serve(
      file(CONTENT, { cutAfter: 100_000, cut: atOnce }),
      file(CONTENT, { cutAfter: 50_000, cut: atOnce }),
      file(CONTENT),
    );
    const source = { path: '/adapters/ad_1' };
    const both = [1, 2].map(() =>
      downloadToFile(createHttpTransport({ baseUrl: server.baseUrl }), source, join(folder, 'a.tar'), {
        retryDelayMs: 1,
      }),
    );
    const results = await Promise.allSettled(both);
    expect(results.some(({ status }) => status === 'fulfilled')).toBe(true);
    expect((await readFile(join(folder, 'a.tar'))).equals(CONTENT)).toBe(true);
  });
});
