import { randomBytes } from 'node:crypto';
import { constants, createWriteStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ProductError } from '@lorasmith/contracts';
import type { BundleFile, BundleStore, Staging } from './bundle-store.js';
import { DigestStream } from './digest-stream.js';
import { asStorageError, systemErrorCode } from './storage-error.js';
import { syncFolder } from './write-file-atomic.js';

export interface LocalBundleStoreOptions {
  /** The data folder. Bundles are in `root/kind`, half-made ones in `root/.staging`; both are made when missing. */
  root: string;
  /** What is stored, in the plural: `datasets`, `adapters`. A folder name. */
  kind: string;
}

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const FILE_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/;
/** Records are a few kilobytes; a manifest with every module and loss of a large model stays below this. */
const MAX_JSON_BYTES = 16 * 1024 * 1024;
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EISDIR']);

/** A {@link BundleStore} in a local folder. */
export async function openBundleStore({ root, kind }: LocalBundleStoreOptions): Promise<BundleStore> {
  if (!ID.test(kind)) throw new Error(`openBundleStore: ${JSON.stringify(kind)} is not a folder name`);
  const bundles = path.resolve(root, kind);
  const stagings = path.resolve(root, '.staging');
  await mkdir(bundles, { recursive: true });
  await mkdir(stagings, { recursive: true });

  const notFound = (what: string) => new ProductError('not_found', `There is no ${what} in ${kind}.`);
  const folder = (id: string) => {
    if (!ID.test(id)) throw notFound(`bundle ${JSON.stringify(id.slice(0, 140))}`);
    return path.join(bundles, id);
  };
  const file = (id: string, name: string) => {
    if (!FILE_NAME.test(name)) throw notFound(`file ${JSON.stringify(name.slice(0, 260))} of ${id}`);
    return path.join(folder(id), name);
  };
  const absent = (error: unknown, what: string): unknown =>
    ABSENT.has(systemErrorCode(error) ?? '') ? notFound(what) : error;

  /** Refuses links, so that a bundle never leads out of its folder. */
  const openFile = async (id: string, name: string): Promise<FileHandle> => {
    const location = file(id, name);
    try {
      const handle = await open(location, constants.O_RDONLY | constants.O_NOFOLLOW);
      if ((await handle.stat()).isFile()) return handle;
      await handle.close();
    } catch (error) {
      throw absent(error, `file ${name} of ${id}`);
    }
    throw notFound(`file ${name} of ${id}`);
  };
  const isFolder = async (location: string): Promise<boolean> => {
    try {
      return (await stat(location)).isDirectory();
    } catch (error) {
      if (ABSENT.has(systemErrorCode(error) ?? '')) return false;
      throw error;
    }
  };
  const describe = async (id: string, name: string): Promise<BundleFile> => {
    const handle = await openFile(id, name);
    try {
      const { size, mtime } = await handle.stat();
      return { name, bytes: size, mtime };
    } finally {
      await handle.close();
    }
  };

  return {
    folder,
    path: file,
    stat: describe,

    async stage() {
      const location = path.join(stagings, `${kind}-${randomBytes(8).toString('hex')}`);
      try {
        await mkdir(location);
      } catch (error) {
        throw asStorageError(error);
      }
      return localStaging(location);
    },

    async publish(staging, id) {
      const target = folder(id);
      // A rename replaces an empty folder silently and a full one not at all; the look before is for a clear answer
      // in the usual case, the caught codes are for two publishers at once.
      if (await isFolder(target)) return false;
      try {
        await syncTree(staging.path);
        await rename(staging.path, target);
        await syncFolder(bundles);
        return true;
      } catch (error) {
        if (['ENOTEMPTY', 'EEXIST'].includes(systemErrorCode(error) ?? '')) return false;
        throw asStorageError(error);
      }
    },

    async has(id) {
      return ID.test(id) && (await isFolder(folder(id)));
    },

    async list() {
      const entries = await readdir(bundles, { withFileTypes: true });
      return entries
        .filter((entry) => entry.isDirectory() && ID.test(entry.name))
        .map((entry) => entry.name)
        .sort();
    },

    async files(id) {
      try {
        const entries = await readdir(folder(id), { withFileTypes: true });
        const names = entries.filter((entry) => entry.isFile() && FILE_NAME.test(entry.name)).map(({ name }) => name);
        return await Promise.all(names.sort().map((name) => describe(id, name)));
      } catch (error) {
        throw absent(error, `bundle ${id}`);
      }
    },

    async read(id, name, range) {
      const handle = await openFile(id, name);
      return handle.createReadStream({ ...range, highWaterMark: 256 * 1024 });
    },

    async readJson(id, name) {
      const handle = await openFile(id, name);
      try {
        const { size } = await handle.stat();
        if (size > MAX_JSON_BYTES) throw new Error(`${size} bytes; at most ${MAX_JSON_BYTES} are read`);
        return JSON.parse(await handle.readFile('utf8'));
      } catch (cause) {
        const message = `The file ${name} of ${id} in ${kind} cannot be read (${(cause as Error).message}).`;
        throw new ProductError('internal_error', message, { cause });
      } finally {
        await handle.close();
      }
    },

    async delete(id) {
      if (!ID.test(id)) return false;
      const doomed = path.join(stagings, `${kind}-${randomBytes(8).toString('hex')}-deleted`);
      try {
        await rename(folder(id), doomed);
      } catch (error) {
        if (ABSENT.has(systemErrorCode(error) ?? '')) return false;
        throw error;
      }
      await syncFolder(bundles);
      await rm(doomed, { recursive: true, force: true });
      return true;
    },

    async sweepStaging(olderThanMs) {
      const leftovers = (await readdir(stagings)).filter((name) => name.startsWith(`${kind}-`));
      let removed = 0;
      for (const name of leftovers) {
        const location = path.join(stagings, name);
        if (Date.now() - (await lastWrite(location)) < olderThanMs) continue;
        await rm(location, { recursive: true, force: true });
        removed++;
      }
      return removed;
    },
  };
}

function localStaging(location: string): Staging {
  return {
    path: location,
    async write(name, source) {
      if (!FILE_NAME.test(name)) throw new Error(`Staging.write: ${JSON.stringify(name)} is not a file name`);
      const digesting = new DigestStream();
      try {
        await pipeline(source, digesting, createWriteStream(path.join(location, name), { flags: 'wx' }));
      } catch (error) {
        throw asStorageError(error);
      }
      return digesting.digest;
    },
    discard: () => rm(location, { recursive: true, force: true }),
  };
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isFile()) throw new Error(`publish: ${entry.name} is not a file; a bundle has only files`);
    const handle = await open(path.join(folder, entry.name), 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncFolder(folder);
}

/** When something was last written in the folder, in milliseconds; a folder that vanishes meanwhile counts as just written. */
async function lastWrite(folder: string): Promise<number> {
  try {
    let latest = (await stat(folder)).mtimeMs;
    for (const name of await readdir(folder)) latest = Math.max(latest, (await stat(path.join(folder, name))).mtimeMs);
    return latest;
  } catch (error) {
    if (ABSENT.has(systemErrorCode(error) ?? '')) return Date.now();
    throw error;
  }
}
