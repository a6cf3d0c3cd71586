import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { ProductError } from '@lorasmith/contracts';
import { explained, type HubSubject, isTemporary } from './hub-errors.js';
import type { HubSettings } from './hub-fetch.js';
import { type HubFile, type HubRepository, pause } from './hub-repository.js';

/** The folder where files are received. */
export interface DownloadFolder {
  /** The path of a file that is incomplete or not checked. */
  partOf(name: string): string;
  /** Bytes of a file that are on the disk, and whether the file is complete and checked. */
  stateOf(name: string): Promise<{ bytes: number; complete: boolean }>;
  /** Moves a checked part to the complete files. */
  accept(name: string): Promise<void>;
}

export interface DownloadOptions {
  hub: HubSettings;
  subject: HubSubject;
  repository: Pick<HubRepository, 'read'>;
  commit: string;
  folder: DownloadFolder;
  signal: AbortSignal;
  /** Called with the number of bytes of the file that are on the disk. */
  onProgress: (bytes: number) => void;
}

/** Connections that break off without a byte are tried again this many times. */
const FRUITLESS_ATTEMPTS = 5;
/** A file whose digest is wrong is fetched once more from its start. */
const TRIES = 2;

/**
 * Fetches a file into its part, from where an earlier attempt ended, checks its digest, and accepts it into the complete
 * files. The `downloadFile` of `@huggingface/hub` has small files in memory, and all files of a server without ranges. Xet is
 * not used: the hub sends the same bytes over plain HTTP, where a part can be continued.
 *
 * @throws ProductError `hub_file_corrupt` if the digest is wrong twice: the file is removed, and not used; `hub_unavailable`,
 *   `hub_access_denied`, `hub_model_not_found`, `hub_dataset_not_found`; the error of the system for a full disk
 */
export async function downloadFile(file: HubFile, options: DownloadOptions): Promise<void> {
  const { folder, signal, subject, hub } = options;
  const part = folder.partOf(file.name);
  if ((await folder.stateOf(file.name)).complete) return options.onProgress(file.bytes);
  for (let attempt = 1; ; attempt++) {
    const digest = await fetchWhole(file, part, options);
    if (digest === file.digest) break;
    await rm(part, { force: true });
    options.onProgress(0);
    signal.throwIfAborted();
    if (attempt < TRIES) continue;
    throw new ProductError(
      'hub_file_corrupt',
      `${subject.repo}: ${file.name} came twice from ${hub.endpoint} with other bytes than its digest says (${file.digest}). It is not used. Pull it again later, or from another hub (HF_ENDPOINT).`,
    );
  }
  await folder.accept(file.name);
}

/** Continues after every lost connection, as long as bytes arrive. @returns the digest of the file on the disk */
async function fetchWhole(file: HubFile, part: string, options: DownloadOptions): Promise<string> {
  const { signal, subject, hub } = options;
  for (let fruitless = 1; ; ) {
    const before = (await options.folder.stateOf(file.name)).bytes;
    try {
      return await fetchRest(file, part, options);
    } catch (error) {
      signal.throwIfAborted();
      const after = (await options.folder.stateOf(file.name)).bytes;
      fruitless = after > before ? 1 : fruitless + 1;
      if (!isTemporary(error) || fruitless > FRUITLESS_ATTEMPTS) throw explained(error, subject, hub);
      await pause(error, fruitless, hub, signal);
    }
  }
}

/** One connection. @returns the digest, which is also wrong for a file with more or fewer bytes */
async function fetchRest(file: HubFile, part: string, options: DownloadOptions): Promise<string> {
  let hash = digestLike(file.digest, file.bytes);
  let bytes = 0;
  const handle = await open(part, 'a');
  try {
    // What an earlier attempt wrote counts only if the digest of the whole is right.
    for await (const chunk of createReadStream(part, { highWaterMark: 2 ** 20 })) {
      hash.update(chunk);
      bytes += chunk.length;
    }
    options.onProgress(bytes);
    if (bytes < file.bytes) {
      const { offset, chunks } = await options.repository.read(options.commit, file.name, bytes);
      if (offset === 0 && bytes > 0) {
        await handle.truncate();
        hash = digestLike(file.digest, file.bytes);
        bytes = 0;
      }
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > file.bytes) break;
        hash.update(chunk);
        await writeAll(handle, chunk);
        options.onProgress(bytes);
      }
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (bytes < file.bytes) throw new UnfinishedError();
  return bytes > file.bytes ? 'too many bytes' : hash.digest();
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let written = 0; written < chunk.length; ) {
    written += (await handle.write(chunk, written)).bytesWritten;
  }
}

/** The connection ended in good order, but too early. */
class UnfinishedError extends Error {
  readonly code = 'ECONNRESET';
}

/**
 * Computes the digest that the hub gives a file: `sha256:…`, or `git-sha1:…`, which git computes of `blob`, the size and the
 * bytes.
 *
 * @param like - A digest of the same kind.
 * @param bytes - The size of the whole file.
 */
export function digestLike(like: string, bytes: number): { update(chunk: Uint8Array): void; digest(): string } {
  const kind = like.slice(0, like.indexOf(':'));
  const hash: Hash = createHash(kind === 'sha256' ? 'sha256' : 'sha1');
  if (kind === 'git-sha1') hash.update(`blob ${bytes}\0`);
  return { update: (chunk) => void hash.update(chunk), digest: () => `${kind}:${hash.digest('hex')}` };
}
