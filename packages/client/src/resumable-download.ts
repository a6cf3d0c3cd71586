import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { type HttpTransport, unreachable } from './http-transport.js';
import { bodyChunks } from './response-body.js';
import { sleep } from './sleep.js';

export interface DownloadProgress {
  receivedBytes: number;
  /** Null while the server has not said. */
  totalBytes: number | null;
}

export interface DownloadOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Silence after which a connection counts as dead. @defaultValue 60000 */
  idleTimeoutMs?: number | undefined;
  /** Pause before a further try; doubled with each failure in a row, to 10 s at most. @defaultValue 500 */
  retryDelayMs?: number | undefined;
  /** Tries in a row that bring not one byte before this gives up. @defaultValue 5 */
  maxFailures?: number | undefined;
}

export interface DownloadSource {
  path: string;
  query?: Record<string, string>;
}

const MAX_DELAY_MS = 10_000;

/**
 * Downloads into `file`, which appears whole or not at all. What has arrived is kept in `<file>.part`, with the ETag it
 * belongs to in `<file>.part.json`, and a later call goes on from there. Of two calls at once for one file, one may fail.
 *
 * @throws ApiError when the server refuses; ProductError `service_unavailable` when `maxFailures` tries in a row brought
 * nothing, `conflict` when another call took the file over; the reason of `signal`. The part is kept in each case.
 */
export async function downloadToFile(
  transport: HttpTransport,
  source: DownloadSource,
  file: string,
  options: DownloadOptions = {},
): Promise<void> {
  const { signal, retryDelayMs = 500, maxFailures = 5 } = options;
  let failures = 0;
  for (;;) {
    let received = 0;
    const onBytes = (count: number) => {
      received += count;
    };
    try {
      await receive({ transport, source, file, options, onBytes });
      break;
    } catch (error) {
      signal?.throwIfAborted();
      failures = received > 0 ? 1 : failures + 1;
      const passing = error instanceof ProductError && (error.status >= 500 || error.status === 416);
      // The part is not a beginning of what the server has now: begin anew.
      if (passing && error.status === 416) await rm(`${file}.part.json`, { force: true });
      if (!passing || failures >= maxFailures) throw error;
    }
    const delayMs = Math.min(retryDelayMs * 2 ** (failures - 1), MAX_DELAY_MS);
    await sleep(delayMs, signal);
  }
  await rename(`${file}.part`, file);
  await rm(`${file}.part.json`, { force: true });
  const folder = await open(dirname(file), 'r');
  await folder.sync().finally(() => folder.close());
}

interface Receiving {
  transport: HttpTransport;
  source: DownloadSource;
  file: string;
  options: DownloadOptions;
  onBytes: (count: number) => void;
}

/** One connection; returns when `<file>.part` is complete and on the disk. */
async function receive({ transport, source, file, options, onBytes }: Receiving): Promise<void> {
  const { signal, onProgress, idleTimeoutMs = 60_000 } = options;
  const begun = await readBegun(file, source);
  if (begun !== undefined && begun.bytes === begun.totalBytes) return;
  const connection = new AbortController();
  const aborted = AbortSignal.any(signal === undefined ? [connection.signal] : [connection.signal, signal]);
  let idle: NodeJS.Timeout | undefined;
  let part: FileHandle | undefined;
  try {
    const response = await transport.request({
      method: 'GET',
      ...source,
      headers: {
        // Any coding would make Content-Length and Range those of other bytes.
        'accept-encoding': 'identity',
        ...(begun === undefined ? {} : { range: `bytes=${begun.bytes}-`, 'if-range': begun.etag }),
      },
      signal: aborted,
      // A merged model is computed before the first byte comes.
      timeoutMs: null,
      repeatable: false,
    });
    idle = setTimeout(
      () => connection.abort(new ProductError('timeout', `The download was silent for ${idleTimeoutMs} ms.`)),
      idleTimeoutMs,
    );
    const { start, totalBytes } = placeOf(response, begun);
    part = await openPart(file, start, { source: nameOf(source), etag: response.headers.get('etag'), totalBytes });
    let position = start;
    onProgress?.({ receivedBytes: position, totalBytes });
    for await (const chunk of bodyChunks(response, aborted)) {
      idle?.refresh();
      await writeWhole(part, chunk, position);
      position += chunk.byteLength;
      onBytes(chunk.byteLength);
      onProgress?.({ receivedBytes: position, totalBytes });
    }
    if (totalBytes !== null && position !== totalBytes) {
      throw new ProductError('service_unavailable', `The download ended after ${position} of ${totalBytes} bytes.`);
    }
    await part.truncate(position);
    await part.sync();
    await checkStillOurs(part, file);
  } catch (error) {
    aborted.throwIfAborted();
    // A full disk is ours, not the connection's.
    if (typeof (error as NodeJS.ErrnoException).syscall === 'string') throw error;
    throw unreachable(transport.origin, error);
  } finally {
    clearTimeout(idle);
    connection.abort();
    await part?.close();
  }
}

/** What `<file>.part.json` says of the part. */
interface PartNote {
  source: string;
  etag: string | null;
  totalBytes: number | null;
}

interface Begun {
  bytes: number;
  etag: string;
  totalBytes: number | null;
}

async function readBegun(file: string, source: DownloadSource): Promise<Begun | undefined> {
  try {
    const { etag, totalBytes, ...note } = JSON.parse(await readFile(`${file}.part.json`, 'utf8')) as PartNote;
    const { size } = await stat(`${file}.part`);
    // A weak tag does not promise the same bytes, so nothing can be continued by it (RFC 9110, 13.1.5).
    if (note.source !== nameOf(source) || size === 0 || etag === null || etag.startsWith('W/')) return undefined;
    return { bytes: size, etag, totalBytes };
  } catch {
    return undefined;
  }
}

/** Opens the part for writing at `start`. At 0 whatever it held before is gone, and the note tells of the new bytes. */
async function openPart(file: string, start: number, note: PartNote): Promise<FileHandle> {
  if (start > 0) return await open(`${file}.part`, 'r+');
  await rm(`${file}.part.json`, { force: true });
  // A new file, not the old one emptied: another call may be about to give that one its final name.
  await rm(`${file}.part`, { force: true });
  const part = await open(`${file}.part`, 'wx');
  await writeFile(`${file}.part.json`, JSON.stringify(note));
  return part;
}

async function checkStillOurs(part: FileHandle, file: string): Promise<void> {
  const [ours, there] = [await part.stat(), await stat(`${file}.part`).catch(() => undefined)];
  if (ours.ino !== there?.ino) {
    throw new ProductError('conflict', `Another download into ${file} took the place of this one.`);
  }
}

function placeOf(response: Response, begun: Begun | undefined): { start: number; totalBytes: number | null } {
  if (response.status !== 206) {
    const length = response.headers.get('content-length');
    return { start: 0, totalBytes: length === null ? null : Number(length) };
  }
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  if (begun === undefined || range === null || Number(range[1]) !== begun.bytes) {
    throw new ProductError('range_not_satisfiable', 'The server answered with another range than the one asked for.');
  }
  return { start: begun.bytes, totalBytes: Number(range[2]) };
}

async function writeWhole(part: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < chunk.byteLength; ) {
    const { bytesWritten } = await part.write(chunk, written, chunk.byteLength - written, position + written);
    written += bytesWritten;
  }
}

function nameOf({ path, query }: DownloadSource): string {
  return `${path}?${new URLSearchParams(query).toString()}`;
}
