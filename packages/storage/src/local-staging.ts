import { randomBytes } from 'node:crypto';
import { constants, createWriteStream } from 'node:fs';
import { copyFile, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isBundleFileName, type Staging } from './bundle-store.js';
import { DigestStream, digestFile } from './digest-stream.js';
import { asStorageError, isAbsent, syncFolder, systemErrorCode } from './local-files.js';

/** Chunks that arrive during a write are written together, up to this size: each write is a turn of a thread. */
const WRITE_OPTIONS = { flags: 'wx', highWaterMark: 512 * 1024 };

/** Incomplete bundles of one kind, in `root/.staging`. */
export interface LocalStagings {
  stage(): Promise<Staging>;
  /** An unused path in the same folder, for something that is being deleted. */
  doomedPath(): string;
  sweep(olderThanMs: number): Promise<number>;
}

export async function openLocalStagings({ root, kind }: { root: string; kind: string }): Promise<LocalStagings> {
  const folder = path.resolve(root, '.staging');
  await mkdir(folder, { recursive: true });
  const newPath = () => path.join(folder, `${kind}-${randomBytes(8).toString('hex')}`);
  return {
    async stage() {
      const location = newPath();
      try {
        await mkdir(location);
      } catch (error) {
        throw asStorageError(error);
      }
      return localStaging(location);
    },
    doomedPath: () => `${newPath()}-deleted`,
    sweep: (olderThanMs) => sweepStagings(root, olderThanMs, `${kind}-`),
  };
}

/**
 * Removes staged folders, of one kind or of all, without a write for `olderThanMs`.
 * @returns the number of removed folders
 */
export async function sweepStagings(root: string, olderThanMs: number, prefix = ''): Promise<number> {
  const folder = path.resolve(root, '.staging');
  let removed = 0;
  for (const name of await readdir(folder)) {
    const location = path.join(folder, name);
    if (!name.startsWith(prefix) || Date.now() - (await lastWrite(location)) < olderThanMs) continue;
    await rm(location, { recursive: true, force: true });
    removed++;
  }
  return removed;
}

function localStaging(location: string): Staging {
  const pathOf = (name: string) => {
    if (!isBundleFileName(name)) throw new Error(`Staging: ${JSON.stringify(name)} is not a file name`);
    return path.join(location, name);
  };
  return {
    path: location,
    async write(name, source) {
      const digesting = new DigestStream();
      try {
        await pipeline(source, digesting, createWriteStream(pathOf(name), WRITE_OPTIONS));
      } catch (error) {
        throw asStorageError(error);
      }
      return digesting.digest;
    },
    async take(name, file) {
      const taken = pathOf(name);
      try {
        await rename(file, taken);
      } catch (error) {
        if (systemErrorCode(error) !== 'EXDEV') throw asStorageError(error);
        await copyFile(file, taken, constants.COPYFILE_EXCL).catch((cause: unknown) => {
          throw asStorageError(cause);
        });
        await rm(file);
      }
      return await digestFile(taken);
    },
    discard: () => rm(location, { recursive: true, force: true }),
  };
}

/** Syncs every file of the folder, and the folder, to disk. @throws when it contains anything but files */
export async function syncTree(folder: string): Promise<void> {
  for (const name of await fileNames(folder)) {
    const handle = await open(path.join(folder, name), 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncFolder(folder);
}

/** The files of a staged folder, by name. @throws when it contains anything but files */
export async function fileNames(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile()) throw new Error(`publish: ${entry.name} is not a file; a bundle may contain only files`);
  }
  return entries.map(({ name }) => name).sort();
}

/** Time of the last write in the folder, in milliseconds; now for a folder that is removed meanwhile. */
async function lastWrite(folder: string): Promise<number> {
  try {
    let latest = (await stat(folder)).mtimeMs;
    for (const name of await readdir(folder)) latest = Math.max(latest, (await stat(path.join(folder, name))).mtimeMs);
    return latest;
  } catch (error) {
    if (isAbsent(error)) return Date.now();
    throw error;
  }
}
