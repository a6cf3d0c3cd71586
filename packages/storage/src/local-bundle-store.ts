import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { openAnnotations } from './annotations.js';
import { BundleIndex } from './bundle-index.js';
import { bundleNotFound, checkBundleFileName, checkBundleId, isBundleFileName, isBundleId } from './bundle-names.js';
import type { BundleFile, LocalBundleStore } from './bundle-store.js';
import { localEntryNames } from './local-entry-names.js';
import { localNamedTexts } from './local-named-texts.js';
import { openLocalStagings, syncTree } from './local-staging.js';
import { readJsonFrom } from './read-json.js';
import { asStorageError, isAbsent, isOccupied } from './storage-error.js';
import { syncFolder } from './write-file-atomic.js';

export interface LocalBundleStoreOptions {
  /**
   * The data folder. Bundles are in `root/kind`, incomplete ones in `root/.staging`, the index in `root/.index/kind`, annotations in
   * `root/.annotations/kind`. All are created if missing.
   */
  root: string;
  /** Kind of the bundles, in the plural: `datasets`, `adapters`. A folder name. */
  kind: string;
}

/** A {@link BundleStore} in a local folder. */
export async function openBundleStore({ root, kind }: LocalBundleStoreOptions): Promise<LocalBundleStore> {
  if (!isBundleId(kind)) throw new Error(`openBundleStore: ${JSON.stringify(kind)} is not a folder name`);
  const bundles = path.resolve(root, kind);
  await mkdir(bundles, { recursive: true });
  const stagings = await openLocalStagings({ root, kind });
  const index = new BundleIndex(localEntryNames(path.resolve(root, '.index', kind)));
  const annotationsFolder = path.resolve(root, '.annotations');
  // It is there from the start, so that a backup may name it.
  await mkdir(annotationsFolder, { recursive: true });
  const annotations = openAnnotations(localNamedTexts(path.join(annotationsFolder, kind), stagings));

  const folder = (id: string) => {
    checkBundleId(kind, id);
    return path.join(bundles, id);
  };
  const file = (id: string, name: string) => {
    checkBundleFileName(kind, id, name);
    return path.join(folder(id), name);
  };
  const absent = (error: unknown, what: string): unknown => (isAbsent(error) ? bundleNotFound(kind, what) : error);

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
    throw bundleNotFound(kind, `file ${name} of ${id}`);
  };
  const isFolder = async (location: string): Promise<boolean> => {
    try {
      return (await stat(location)).isDirectory();
    } catch (error) {
      if (isAbsent(error)) return false;
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

  const list = async (prefix = ''): Promise<string[]> => {
    const entries = await readdir(bundles, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory() && isBundleId(entry.name) && entry.name.startsWith(prefix))
      .map((entry) => entry.name)
      .sort();
  };
  const has = async (id: string): Promise<boolean> => isBundleId(id) && (await isFolder(folder(id)));

  return {
    annotations,
    folder,
    path: file,
    stat: describe,
    has,
    list,
    newest: (options) => index.newest(options),
    entries: (owner) => index.entries(owner),
    async repairIndex(listingOf, olderThanMs) {
      return (await index.repair({ list, has }, listingOf, olderThanMs)) + (await annotations.sweep(has));
    },

    stage: () => stagings.stage(),
    sweepStaging: (olderThanMs) => stagings.sweep(olderThanMs),
    // A rename leaves nothing but staged folders.
    sweepOrphans: async () => 0,

    async publish(staging, id, listing) {
      const target = folder(id);
      // A rename silently replaces an empty folder but never a full one. This check handles the usual case, the caught
      // codes handle two concurrent publishers.
      if (await isFolder(target)) return false;
      try {
        await syncTree(staging.path);
        const entry = listing === undefined ? null : await index.add(id, listing);
        try {
          await rename(staging.path, target);
        } catch (error) {
          if (entry !== null) await index.remove(entry);
          throw error;
        }
        await syncFolder(bundles);
        return true;
      } catch (error) {
        if (isOccupied(error)) return false;
        throw asStorageError(error);
      }
    },

    async hold(id) {
      const location = folder(id);
      if (!(await isFolder(location))) throw bundleNotFound(kind, `bundle ${id}`);
      return { folder: location, path: (name) => file(id, name), release: () => {} };
    },

    async files(id) {
      try {
        const entries = await readdir(folder(id), { withFileTypes: true });
        const names = entries.filter((entry) => entry.isFile() && isBundleFileName(entry.name)).map(({ name }) => name);
        return await Promise.all(names.sort().map((name) => describe(id, name)));
      } catch (error) {
        throw absent(error, `bundle ${id}`);
      }
    },

    async read(id, name, range) {
      const handle = await openFile(id, name);
      return handle.createReadStream({ ...range, highWaterMark: 256 * 1024 });
    },

    async localFile(id, name) {
      const { bytes } = await describe(id, name);
      return { path: file(id, name), bytes };
    },

    temporaryUrl: async () => null,

    async readJson(id, name) {
      const handle = await openFile(id, name);
      try {
        return await readJsonFrom(handle);
      } catch (cause) {
        const message = `The file ${name} of ${id} in ${kind} cannot be read (${(cause as Error).message}).`;
        throw new ProductError('internal_error', message, { cause });
      } finally {
        await handle.close();
      }
    },

    async delete(id) {
      if (!(await has(id))) return false;
      // Those of this bundle, and none of another that is published under its id once it is gone.
      const entries = await index.namesOf(id);
      const doomed = stagings.doomedPath();
      try {
        await rename(folder(id), doomed);
      } catch (error) {
        if (isAbsent(error)) return false;
        throw error;
      }
      await syncFolder(bundles);
      await rm(doomed, { recursive: true, force: true });
      for (const entry of entries) await index.remove(entry);
      await annotations.remove(id);
      return true;
    },
  };
}
