import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readFile, rename, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ProductError } from '@lorasmith/contracts';

/**
 * Writes a file so that a reader, or a process that starts after a crash, finds either the old or the new content, never a
 * part of it: a temporary file in the same folder, fsync, one rename, fsync of the folder.
 *
 * @param mode - who may read it: 0o600 for a secret
 * @throws ProductError `storage_full`
 */
export async function writeFileAtomic(file: string, data: string | Uint8Array, mode = 0o666): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncFolder(path.dirname(file));
  } catch (error) {
    await rm(temporary, { force: true });
    throw asStorageError(error);
  }
}

/** Makes changes of names in the folder survive a power failure. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Error codes of a full disk, a used-up quota and a too large file. */
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR']);

/** `code` of a failed system call, for example ENOENT; undefined for any other error. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** True if a system call failed because a file is missing, or is not of a type that bundles have. */
export function isAbsent(error: unknown): boolean {
  return ABSENT.has(systemErrorCode(error) ?? '');
}

/** True if a rename failed because a folder with content has that name. */
export function isOccupied(error: unknown): boolean {
  return ['ENOTEMPTY', 'EEXIST'].includes(systemErrorCode(error) ?? '');
}

/** Maps the error of a write: `storage_full` if there was no space, otherwise the same error. */
export function asStorageError(error: unknown): unknown {
  const code = systemErrorCode(error);
  return code === undefined || !NO_SPACE.has(code) ? error : storageFull('', error);
}

/** @param details - What else is known, as the rest of `The disk of the data folder is full`. */
export function storageFull(details: string, cause?: unknown): ProductError {
  const message = `The disk of the data folder is full${details}. Free some space, then try again.`;
  return new ProductError('storage_full', message, { cause });
}

const MAX_TRIES = 5;
const PAUSE_MS = 500;

/** Bytes that this process may still write to the file system of a folder. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Writes a large file of known size, and never fills the disk for it: without enough free space nothing is written, so
 * what others write at that moment does not fail. If another writer takes the space meanwhile, it is tried again.
 *
 * @param write - Leaves nothing behind when it fails
 * @throws ProductError `storage_full`; errors of `write`
 */
export async function writeWithinSpace(folder: string, bytes: number, write: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    const free = await freeBytesOf(folder);
    if (free < bytes) throw storageFull(`: ${bytes} bytes are needed and ${free} are free`);
    try {
      await write();
      return;
    } catch (error) {
      const thrown = asStorageError(error);
      const isFull = thrown instanceof ProductError && thrown.code === 'storage_full';
      if (!isFull || tries === MAX_TRIES) throw thrown;
      await sleep(PAUSE_MS);
    }
  }
}

/** Limit for JSON files. Even the manifest of an adapter for a large model, with every module and loss, is smaller. */
export const MAX_JSON_BYTES = 16 * 1024 * 1024;

/** @throws Error for a file that is too large to be read as JSON */
export function checkJsonSize(sizeBytes: number): void {
  if (sizeBytes > MAX_JSON_BYTES) throw new Error(`${sizeBytes} bytes; at most ${MAX_JSON_BYTES} are read`);
}

/** Reads a JSON file of at most {@link MAX_JSON_BYTES}. @throws Error when it is larger, or not JSON */
export async function readJsonFrom(handle: FileHandle): Promise<unknown> {
  checkJsonSize((await handle.stat()).size);
  return JSON.parse(await handle.readFile('utf8'));
}

const TOKEN_FILE = '.registry-token';
const TOKEN = /^[0-9a-f]{64}$/;

/**
 * Writes a new random token into the data folder, for its user alone. Another process that knows it reads the same folder,
 * wherever it runs: a copy of the folder has an earlier token. So the registry knows the api by it, too.
 * @throws ProductError `storage_full`
 */
export async function writeFolderToken(dataDir: string): Promise<string> {
  const token = randomBytes(32).toString('hex');
  await writeFileAtomic(path.join(dataDir, TOKEN_FILE), token, 0o600);
  return token;
}

/** The token in the data folder; null if there is none that this process can read. */
export async function readFolderToken(dataDir: string): Promise<string | null> {
  const token = await readFile(path.join(dataDir, TOKEN_FILE), 'latin1').catch(() => '');
  return TOKEN.test(token) ? token : null;
}
