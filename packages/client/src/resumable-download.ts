import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type AdapterFile, ProductError } from '@lorasmith/contracts';
import { bodyChunks, type HttpTransport, sleep, unreachable } from './http-transport.js';

export interface DownloadProgress {
  receivedBytes: number;
  /** Null if unknown. */
  totalBytes: number | null;
}

export interface DownloadOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Time without data after which a connection counts as lost. @defaultValue 60000 */
  idleTimeoutMs?: number | undefined;
  /** Delay before the first retry. It doubles with each consecutive failure, up to 10 s. @defaultValue 500 */
  retryDelayMs?: number | undefined;
  /** Maximum number of consecutive tries without a single byte. @defaultValue 5 */
  maxFailures?: number | undefined;
}

export interface DownloadSource {
  path: string;
  query?: Record<string, string>;
}

/** Options for a single file. */
export interface FileDownloadOptions extends DownloadOptions {
  /** The digest of the content, in hexadecimal. */
  sha256?: string | undefined;
}

const MAX_DELAY_MS = 10_000;

/**
 * Downloads into `file`, which is never visible incomplete. Received bytes are stored in `<file>.part`, and their ETag
 * in `<file>.part.json`, so that a later call continues the download. Of two concurrent calls for one file, one may fail.
 *
 * @throws ApiError when the server refuses; ProductError `service_unavailable` when `maxFailures` consecutive tries
 * received nothing, `conflict` when another call took over the file; `invalid_adapter` when the content differs from `sha256`; the
 * reason of `signal`. The part is kept, except if it differs.
 */
export async function downloadToFile(
  transport: HttpTransport,
  source: DownloadSource,
  file: string,
  options: FileDownloadOptions = {},
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
      const temporary = error instanceof ProductError && (error.status >= 500 || error.status === 416);
      // The content on the server has changed: restart the download.
      if (temporary && error.status === 416) await rm(`${file}.part.json`, { force: true });
      if (!temporary || failures >= maxFailures) throw error;
    }
    const delayMs = Math.min(retryDelayMs * 2 ** (failures - 1), MAX_DELAY_MS);
    await sleep(delayMs, signal);
  }
  await rename(`${file}.part`, file);
  await rm(`${file}.part.json`, { force: true });
  const folder = await open(dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

interface Receiving {
  transport: HttpTransport;
  source: DownloadSource;
  file: string;
  options: FileDownloadOptions;
  onBytes: (count: number) => void;
}

/** One connection; returns when `<file>.part` is complete and on the disk. */
async function receive({ transport, source, file, options, onBytes }: Receiving): Promise<void> {
  const { signal, onProgress, idleTimeoutMs = 60_000, sha256 } = options;
  const stored = await readPart(file, source);
  if (stored !== undefined && stored.bytes === stored.totalBytes) return await checkDigest(file, sha256);
  const connection = new AbortController();
  const aborted = AbortSignal.any(signal === undefined ? [connection.signal] : [connection.signal, signal]);
  let idle: NodeJS.Timeout | undefined;
  let part: FileHandle | undefined;
  let writer: DownloadWriter | undefined;
  /** The hash of everything from the beginning; a continued download is read again instead. */
  let hash: Hash | undefined;
  try {
    const response = await transport.request({
      method: 'GET',
      ...source,
      headers: {
        // With a content coding, Content-Length and Range would refer to the encoded bytes.
        'accept-encoding': 'identity',
        ...(stored === undefined ? {} : { range: `bytes=${stored.bytes}-`, 'if-range': stored.etag }),
      },
      signal: aborted,
      // The registry computes a merged model before it sends the first byte.
      timeoutMs: null,
      repeatable: false,
      followsRedirect: true,
    });
    idle = setTimeout(
      () => connection.abort(new ProductError('timeout', `The download was silent for ${idleTimeoutMs} ms.`)),
      idleTimeoutMs,
    );
    const { start, totalBytes } = rangeOf(response, stored);
    part = await openPart(file, start, { source: nameOf(source), etag: response.headers.get('etag'), totalBytes });
    writer = new DownloadWriter(part, start);
    if (sha256 !== undefined && start === 0) hash = createHash('sha256');
    let position = start;
    onProgress?.({ receivedBytes: position, totalBytes });
    for await (const chunk of bodyChunks(response, aborted)) {
      idle?.refresh();
      await writer.add(chunk);
      hash?.update(chunk);
      position += chunk.byteLength;
      onBytes(chunk.byteLength);
      onProgress?.({ receivedBytes: position, totalBytes });
    }
    await writer.end();
    if (totalBytes !== null && position !== totalBytes) {
      throw new ProductError('service_unavailable', `The download ended after ${position} of ${totalBytes} bytes.`);
    }
    await part.truncate(position);
    await part.sync();
    await checkStillOurs(part, file);
    await checkDigest(file, sha256, hash?.digest('hex'));
  } catch (error) {
    // What has arrived is not received again.
    await writer?.end().catch(() => {});
    aborted.throwIfAborted();
    // A local error such as a full disk, not one of the connection.
    if (typeof (error as NodeJS.ErrnoException).syscall === 'string') throw error;
    throw unreachable(transport.origin, error);
  } finally {
    clearTimeout(idle);
    connection.abort();
    await part?.close();
  }
}

/** The content of `<file>.part.json`. */
interface PartNote {
  source: string;
  etag: string | null;
  totalBytes: number | null;
}

interface StoredPart {
  bytes: number;
  etag: string;
  totalBytes: number | null;
}

async function readPart(file: string, source: DownloadSource): Promise<StoredPart | undefined> {
  try {
    const { etag, totalBytes, ...note } = JSON.parse(await readFile(`${file}.part.json`, 'utf8')) as PartNote;
    const { size } = await stat(`${file}.part`);
    // A weak ETag does not guarantee the same bytes, so it cannot continue a download (RFC 9110, 13.1.5).
    if (note.source !== nameOf(source) || size === 0 || etag === null || etag.startsWith('W/')) return undefined;
    return { bytes: size, etag, totalBytes };
  } catch {
    return undefined;
  }
}

/** Opens the part for writing at `start`. A start at 0 replaces an earlier part and its note. */
async function openPart(file: string, start: number, note: PartNote): Promise<FileHandle> {
  if (start > 0) return await open(`${file}.part`, 'r+');
  await rm(`${file}.part.json`, { force: true });
  // Creates a new file instead of truncating the old one: another call may be about to rename that one.
  await rm(`${file}.part`, { force: true });
  const part = await open(`${file}.part`, 'wx');
  await writeFile(`${file}.part.json`, JSON.stringify(note));
  return part;
}

async function checkStillOurs(part: FileHandle, file: string): Promise<void> {
  const [ours, current] = [await part.stat(), await stat(`${file}.part`).catch(() => undefined)];
  if (ours.ino !== current?.ino) {
    throw new ProductError('conflict', `Another download into ${file} has replaced this one.`);
  }
}

function rangeOf(response: Response, stored: StoredPart | undefined): { start: number; totalBytes: number | null } {
  if (response.status !== 206) {
    const length = response.headers.get('content-length');
    return { start: 0, totalBytes: length === null ? null : Number(length) };
  }
  const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  if (stored === undefined || range === null || Number(range[1]) !== stored.bytes) {
    throw new ProductError('range_not_satisfiable', 'The server answered with a different range than requested.');
  }
  return { start: stored.bytes, totalBytes: Number(range[2]) };
}

/** @param found - The digest of the part, if it is known. @throws ProductError `invalid_adapter`, and removes the part */
async function checkDigest(file: string, expected: string | undefined, found?: string): Promise<void> {
  if (expected === undefined || (found ?? (await digestOf(`${file}.part`))) === expected) return;
  await rm(`${file}.part.json`, { force: true });
  await rm(`${file}.part`, { force: true });
  const message = `${basename(file)} is damaged: its sha256 differs from the registry's. Download it again.`;
  throw new ProductError('invalid_adapter', message);
}

/** The sha256 of a file, in hexadecimal. */
export async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 2 ** 20 }), hash);
  return hash.digest('hex');
}

function nameOf({ path, query }: DownloadSource): string {
  return `${path}?${new URLSearchParams(query).toString()}`;
}

/** Written at once. Each write is a turn of a thread, whatever its size. */
const BLOCK_BYTES = 2 ** 20;
/** Received bytes wait no longer than this for the rest of their block. */
const WAIT_MS = 50;

/** Writes chunks to a file, one after the other, while further ones arrive. Holds at most two blocks. */
export class DownloadWriter {
  readonly #file: FileHandle;
  /** Position of the first chunk that waits. */
  #position: number;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #writing = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(file: FileHandle, position: number) {
    this.#file = file;
    this.#position = position;
  }

  /** Resolves when there is space for another chunk. @throws an error of an earlier write */
  async add(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#bytes >= BLOCK_BYTES) await this.#startWriting();
    else this.#timer ??= setTimeout(() => void this.#startWriting().catch(() => {}), WAIT_MS);
  }

  /** Resolves when everything is written. @throws an error of a write */
  async end(): Promise<void> {
    await this.#startWriting();
    await this.#writing;
  }

  /** Resolves when the write before has ended. */
  async #startWriting(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const before = this.#writing;
    const [chunks, position] = [this.#chunks, this.#position];
    this.#position += this.#bytes;
    this.#chunks = [];
    this.#bytes = 0;
    this.#writing = before.then(() => writeAll(this.#file, chunks, position));
    // Reported by the next call.
    this.#writing.catch(() => {});
    await before;
  }
}

async function writeAll(file: FileHandle, chunks: readonly Uint8Array[], position: number): Promise<void> {
  let remaining = chunks.filter(({ byteLength }) => byteLength > 0);
  let at = position;
  while (remaining.length > 0) {
    const { bytesWritten } = await file.writev(remaining, at);
    at += bytesWritten;
    let written = bytesWritten;
    remaining = remaining.flatMap((chunk) => {
      const part = Math.min(written, chunk.byteLength);
      written -= part;
      return part === chunk.byteLength ? [] : [chunk.subarray(part)];
    });
  }
}

export interface FolderDownloadOptions extends DownloadOptions {
  id: string;
  /** The query of the request, such as `weights=merged`. */
  query: Record<string, string>;
  /** True to replace an existing folder. */
  overwrite: boolean;
}

/** The time for which the list of a merged model's files is asked for while a proxy gives up before the merge ends. */
const MERGE_TIMEOUT_MS = 3_600_000;
const FILE_NAME = /^\w[\w.-]{0,254}$/;

/**
 * Downloads the files of an adapter, or of its merged model, one by one into `folder`, which is never visible incomplete. They are
 * received in a hidden folder next to it, from which a later call continues.
 *
 * @throws ProductError `invalid_adapter` when a file differs from the digest of the registry; as {@link downloadToFile}
 */
export async function downloadFolder(
  transport: HttpTransport,
  folder: string,
  { id, query, overwrite, onProgress, ...options }: FolderDownloadOptions,
): Promise<void> {
  const target = resolve(folder);
  const path = `/adapters/${encodeURIComponent(id)}/files`;
  const files = await listFiles(transport, { path, query }, options.signal);

  const form = [id, ...Object.values(query)].join('.').replaceAll('/', '--');
  const receiving = join(dirname(target), `.${basename(target)}.${form}`);
  await mkdir(receiving, { recursive: true });
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const { name, bytes, sha256 } of files) {
    const file = join(receiving, name);
    if (!(await exists(file)) || (await digestOf(file)) !== sha256) {
      await downloadToFile(transport, { path: `${path}/${name}`, query }, file, {
        ...options,
        onProgress: ({ receivedBytes }) => onProgress?.({ receivedBytes: doneBytes + receivedBytes, totalBytes }),
        sha256,
      });
    }
    doneBytes += bytes;
  }
  await removeOthers(receiving, files);
  await replace(target, receiving, overwrite);
}

/** @throws ProductError `conflict` when `target` exists */
export async function refuseExisting(target: string, overwrite: boolean): Promise<void> {
  if (overwrite || !(await exists(target))) return;
  throw new ProductError('conflict', `${target} exists. Choose another destination, or overwrite it.`);
}

async function listFiles(
  transport: HttpTransport,
  source: { path: string; query: Record<string, string> },
  signal: AbortSignal | undefined,
): Promise<AdapterFile[]> {
  const { data } = await transport.json<{ data: AdapterFile[] }>({
    method: 'GET',
    ...source,
    signal,
    // The registry first computes a merged model.
    timeoutMs: null,
    retryTimeoutsForMs: MERGE_TIMEOUT_MS,
  });
  for (const { name } of data) {
    if (FILE_NAME.test(name)) continue;
    throw new ProductError('invalid_adapter', `The download contains ${JSON.stringify(name)}, which is not allowed.`);
  }
  return data;
}

/** Removes what an earlier call received that is not part of the adapter any more. */
async function removeOthers(folder: string, files: readonly AdapterFile[]): Promise<void> {
  const names = new Set(files.map(({ name }) => name));
  for (const name of await readdir(folder)) {
    if (!names.has(name)) await rm(join(folder, name), { recursive: true });
  }
}

async function replace(target: string, folder: string, overwrite: boolean): Promise<void> {
  const replaced = `${folder}.replaced`;
  await rm(replaced, { recursive: true, force: true });
  if (overwrite && (await exists(target))) await rename(target, replaced);
  await rename(folder, target);
  await rm(replaced, { recursive: true, force: true });
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
