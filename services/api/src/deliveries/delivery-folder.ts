import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AdapterId, ProductError } from '@lorasmith/contracts';
import { DigestStream, isAbsent, isOccupied, syncFolder, syncTree, systemErrorCode } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { AdapterForm, AdapterSource } from './adapter-source.js';

const STAGING = '.staging';
/** A staged folder of this age belongs to a process that died. */
const STALE_MS = 24 * 3_600_000;

export interface CopiedAdapter {
  id: AdapterId;
  form: AdapterForm;
  /** The files that are copied. @defaultValue all */
  names?: readonly string[];
}

/** The folder that servers and other programs see, in which the files of delivered adapters are. */
export class DeliveryFolder {
  readonly path: string;
  readonly #source: AdapterSource;

  constructor(folder: string, source: AdapterSource) {
    this.path = path.resolve(folder);
    this.#source = source;
  }

  /**
   * Copies the files of an adapter into a folder of its own, which appears complete, with one rename. Does nothing if it is there.
   * @param place - Where, relative to the delivery folder; the last part is made.
   * @throws ProductError `storage_full`, `storage_unavailable` for a folder that cannot be written, errors of the source
   */
  async copy(adapter: CopiedAdapter, place: string, signal: AbortSignal): Promise<void> {
    const target = path.join(this.path, place);
    if (await isFolder(target)) return;
    await this.#sweep();
    const staging = path.join(this.path, STAGING, randomBytes(8).toString('hex'));
    try {
      await mkdir(path.dirname(target), { recursive: true });
      // Readable by others: servers run as another user.
      await mkdir(staging, { recursive: true });
      await this.#fill(staging, adapter, signal);
      await syncTree(staging);
      await rename(staging, target).catch((error: unknown) => {
        // Another process has copied the same files.
        if (!isOccupied(error)) throw error;
      });
      await syncFolder(path.dirname(target));
    } catch (error) {
      throw folderError(error);
    } finally {
      await rm(staging, { recursive: true, force: true }).catch(() => {});
    }
  }

  /** Removes the adapters in a folder, except these. What cannot be removed stays until the next time. */
  async keepOnly(place: string, kept: readonly AdapterId[]): Promise<void> {
    const folder = path.join(this.path, place);
    for (const name of await readdir(folder).catch(() => [])) {
      if (!Value.Check(AdapterId, name) || kept.includes(name)) continue;
      await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => {});
    }
  }

  /** Removes what processes that died have left unfinished. */
  async #sweep(): Promise<void> {
    const folder = path.join(this.path, STAGING);
    for (const name of await readdir(folder).catch(() => [])) {
      const staged = path.join(folder, name);
      const age = await stat(staged).then(
        ({ mtimeMs }) => Date.now() - mtimeMs,
        () => 0,
      );
      if (age > STALE_MS) await rm(staged, { recursive: true, force: true }).catch(() => {});
    }
  }

  async #fill(staging: string, { id, form, names }: CopiedAdapter, signal: AbortSignal): Promise<void> {
    const files = await this.#source.files(id, form, signal);
    for (const { name, sha256 } of files) {
      if (names !== undefined && !names.includes(name)) continue;
      const digesting = new DigestStream();
      const content = await this.#source.read(id, name, form, signal);
      await pipeline(content, digesting, createWriteStream(path.join(staging, path.basename(name)), { flags: 'wx' }), {
        signal,
      });
      if (digesting.digest.sha256 === sha256) continue;
      throw new ProductError(
        'registry_unavailable',
        `${name} of ${id} did not arrive as it is stored. It is tried again.`,
      );
    }
  }
}

async function isFolder(folder: string): Promise<boolean> {
  return await stat(folder).then(
    (found) => found.isDirectory(),
    (error: unknown) => {
      if (isAbsent(error)) return false;
      throw folderError(error);
    },
  );
}

/** Errors of the file system in words for the owner of an adapter. */
export function folderError(error: unknown): unknown {
  const code = systemErrorCode(error);
  if (error instanceof ProductError || code === undefined) return error;
  if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) {
    return new ProductError('storage_full', 'The disk of the delivery folder is full. Free some space.', {
      cause: error,
    });
  }
  if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'EEXIST', 'EIO'].includes(code)) return error;
  const message = `The delivery folder cannot be written (${code}). Its operator must give this service access to DELIVERY_FOLDER.`;
  return new ProductError('storage_unavailable', message, { cause: error });
}
