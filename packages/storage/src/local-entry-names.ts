import { access, mkdir, open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { EntryNames } from './bundle-index.js';
import { asStorageError, isAbsent } from './storage-error.js';
import { syncFolder } from './write-file-atomic.js';

/** Names as empty files of folders in `root`, which are made when needed. */
export function localEntryNames(root: string): EntryNames {
  const list = async (folder: string): Promise<string[]> => {
    try {
      return (await readdir(path.join(root, folder))).sort();
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  };
  return {
    async add(folder, name) {
      const location = path.join(root, folder);
      try {
        const made = await mkdir(location, { recursive: true });
        await (await open(path.join(location, name), 'w')).close();
        await syncFolder(location);
        if (made !== undefined) await syncParents(location, path.dirname(made));
      } catch (error) {
        throw asStorageError(error);
      }
    },

    async has(folder, name) {
      try {
        await access(path.join(root, folder, name));
        return true;
      } catch (error) {
        if (isAbsent(error)) return false;
        throw error;
      }
    },

    remove: (folder, name) => rm(path.join(root, folder, name), { force: true }),

    async page(folder, { after = '', limit }) {
      const names = await list(folder);
      return names.filter((name) => name > after).slice(0, limit);
    },

    list,

    async listAll() {
      const folders = await list('.');
      return new Map(await Promise.all(folders.map(async (folder) => [folder, await list(folder)] as const)));
    },
  };
}

/** Syncs the folders above this one, up to `last`. */
async function syncParents(location: string, last: string): Promise<void> {
  const parent = path.dirname(location);
  await syncFolder(parent);
  if (parent !== last) await syncParents(parent, last);
}
