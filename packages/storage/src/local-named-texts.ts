import { link, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { NamedTexts } from './annotations.js';
import { type LocalStagings, syncTree } from './local-staging.js';
import { asStorageError, isAbsent, systemErrorCode } from './storage-error.js';
import { syncFolder } from './write-file-atomic.js';

const STAGED_NAME = 'text';

/** Texts as files of a folder, which is made when needed. A text is staged, and gets its name once it is on the disk. */
export function localNamedTexts(folder: string, stagings: Pick<LocalStagings, 'stage'>): NamedTexts {
  return {
    async create(name, text) {
      const staging = await stagings.stage();
      try {
        await staging.write(STAGED_NAME, [Buffer.from(text)]);
        await syncTree(staging.path);
        await mkdir(folder, { recursive: true });
        // Unlike a rename, it replaces nothing.
        await link(path.join(staging.path, STAGED_NAME), path.join(folder, name));
        await syncFolder(folder);
        return true;
      } catch (error) {
        if (systemErrorCode(error) === 'EEXIST') return false;
        throw asStorageError(error);
      } finally {
        await staging.discard();
      }
    },

    async read(name) {
      return await readFile(path.join(folder, name), 'utf8').catch(nullIfAbsent);
    },

    remove: (name) => rm(path.join(folder, name), { force: true }),

    async list(prefix) {
      const names = (await readdir(folder).catch(nullIfAbsent)) ?? [];
      return names.filter((name) => name.startsWith(prefix)).sort();
    },
  };
}

function nullIfAbsent(error: unknown): null {
  if (isAbsent(error)) return null;
  throw error;
}
