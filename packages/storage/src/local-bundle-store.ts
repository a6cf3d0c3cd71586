import { constants } from 'node:fs';
import { access, type FileHandle, link, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { ProductError } from '@lorasmith/contracts';
import { type Annotations, type NamedTexts, openAnnotations } from './annotations.js';
import type { BundleEntry, Listing } from './bundle-entry.js';
import { BundleIndex, type EntryNames } from './bundle-index.js';
import {
  type BundleFile,
  type BundleLease,
  type BundleStore,
  type ByteRange,
  bundleNotFound,
  checkBundleFileName,
  checkBundleId,
  isBundleFileName,
  isBundleId,
  type LocalBundleStore,
  type LocalFile,
  type Staging,
} from './bundle-store.js';
import { asStorageError, isAbsent, isOccupied, readJsonFrom, syncFolder, systemErrorCode } from './local-files.js';
import { type LocalStagings, openLocalStagings, syncTree } from './local-staging.js';

export interface LocalBundleStoreOptions {
  /**
   * The data folder. Bundles are in `root/kind`, incomplete ones in `root/.staging`, the index in `root/.index/kind`, annotations in
   * `root/.annotations/kind`. All are created if missing.
   */
  root: string;
  /** Kind of the bundles, in the plural: `datasets`, `adapters`. A folder name. */
  kind: string;
}

/** Opens a {@link BundleStore} in a local folder. */
export async function openBundleStore({ root, kind }: LocalBundleStoreOptions): Promise<LocalBundleStore> {
  if (!isBundleId(kind)) throw new Error(`openBundleStore: ${JSON.stringify(kind)} is not a folder name`);
  const bundles = path.resolve(root, kind);
  await mkdir(bundles, { recursive: true });
  const stagings = await openLocalStagings({ root, kind });
  const index = new BundleIndex(localEntryNames(path.resolve(root, '.index', kind)));
  const annotations = await annotationsIn({ root, kind }, stagings);
  return new FolderStore({ kind, bundles, stagings, index, annotations });
}

/** Opens the annotations of things that have no bundle, and removes leftovers of crashed processes. */
export async function openLocalAnnotations(options: LocalBundleStoreOptions): Promise<Annotations> {
  const stagings = await openLocalStagings(options);
  await stagings.sweep(STALE_STAGING_MS);
  return await annotationsIn(options, stagings);
}

/** A staged text without a write for this long belongs to a process that died. */
const STALE_STAGING_MS = 24 * 3_600_000;

async function annotationsIn({ root, kind }: LocalBundleStoreOptions, stagings: LocalStagings): Promise<Annotations> {
  const folder = path.resolve(root, '.annotations');
  // It is there from the start, so that a backup may name it.
  await mkdir(folder, { recursive: true });
  return openAnnotations(localNamedTexts(path.join(folder, kind), stagings));
}

/** The parts of a store in a local folder. */
interface FolderStoreParts {
  kind: string;
  /** The folder of all bundles. */
  bundles: string;
  stagings: LocalStagings;
  index: BundleIndex;
  annotations: Annotations;
}

class FolderStore implements LocalBundleStore {
  readonly annotations: Annotations;
  readonly #kind: string;
  readonly #bundles: string;
  readonly #stagings: LocalStagings;
  readonly #index: BundleIndex;

  constructor({ kind, bundles, stagings, index, annotations }: FolderStoreParts) {
    this.annotations = annotations;
    this.#kind = kind;
    this.#bundles = bundles;
    this.#stagings = stagings;
    this.#index = index;
  }

  folder(id: string): string {
    checkBundleId(this.#kind, id);
    return path.join(this.#bundles, id);
  }

  path(id: string, name: string): string {
    checkBundleFileName(this.#kind, id, name);
    return path.join(this.folder(id), name);
  }

  async has(id: string): Promise<boolean> {
    return isBundleId(id) && (await isFolder(this.folder(id)));
  }

  async list(prefix = ''): Promise<string[]> {
    const entries = await readdir(this.#bundles, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory() && isBundleId(entry.name) && entry.name.startsWith(prefix))
      .map((entry) => entry.name)
      .sort();
  }

  newest(options: Parameters<BundleStore['newest']>[0]): Promise<BundleEntry[]> {
    return this.#index.newest(options);
  }

  entries(owner?: string | null): Promise<BundleEntry[]> {
    return this.#index.entries(owner);
  }

  async repairIndex(listingOf: (id: string) => Promise<Listing | null>, olderThanMs: number): Promise<number> {
    const repaired = await this.#index.repair(this, listingOf, olderThanMs);
    return repaired + (await this.annotations.sweep((id) => this.has(id)));
  }

  stage(): Promise<Staging> {
    return this.#stagings.stage();
  }

  sweepStaging(olderThanMs: number): Promise<number> {
    return this.#stagings.sweep(olderThanMs);
  }

  /** A rename leaves nothing but staged folders. */
  async sweepOrphans(): Promise<number> {
    return 0;
  }

  async publish(staging: Staging, id: string, listing?: Listing): Promise<boolean> {
    const target = this.folder(id);
    // A rename silently replaces an empty folder but never a full one. This check handles the usual case, the caught
    // codes handle two concurrent publishers.
    if (await isFolder(target)) return false;
    try {
      await syncTree(staging.path);
      const entry = listing === undefined ? null : await this.#index.add(id, listing);
      try {
        await rename(staging.path, target);
      } catch (error) {
        if (entry !== null) await this.#index.remove(entry);
        throw error;
      }
      await syncFolder(this.#bundles);
      return true;
    } catch (error) {
      if (isOccupied(error)) return false;
      throw asStorageError(error);
    }
  }

  async lease(id: string): Promise<BundleLease> {
    const folder = this.folder(id);
    if (!(await isFolder(folder))) throw bundleNotFound(this.#kind, `bundle ${id}`);
    return { folder, path: (name) => this.path(id, name), release: () => {} };
  }

  async files(id: string): Promise<BundleFile[]> {
    try {
      const entries = await readdir(this.folder(id), { withFileTypes: true });
      const names = entries.filter((entry) => entry.isFile() && isBundleFileName(entry.name)).map(({ name }) => name);
      return await Promise.all(names.sort().map((name) => this.stat(id, name)));
    } catch (error) {
      throw this.#absent(error, `bundle ${id}`);
    }
  }

  async stat(id: string, name: string): Promise<BundleFile> {
    const handle = await this.#open(id, name);
    try {
      const { size, mtime } = await handle.stat();
      return { name, bytes: size, mtime };
    } finally {
      await handle.close();
    }
  }

  async read(id: string, name: string, range?: ByteRange): Promise<Readable> {
    const handle = await this.#open(id, name);
    return handle.createReadStream({ ...range, highWaterMark: 256 * 1024 });
  }

  async localFile(id: string, name: string): Promise<LocalFile> {
    const { bytes } = await this.stat(id, name);
    return { path: this.path(id, name), bytes };
  }

  async temporaryUrl(): Promise<null> {
    return null;
  }

  async readJson(id: string, name: string): Promise<unknown> {
    const handle = await this.#open(id, name);
    try {
      return await readJsonFrom(handle);
    } catch (cause) {
      const message = `The file ${name} of ${id} in ${this.#kind} cannot be read (${(cause as Error).message}).`;
      throw new ProductError('internal_error', message, { cause });
    } finally {
      await handle.close();
    }
  }

  async delete(id: string): Promise<boolean> {
    if (!(await this.has(id))) return false;
    // Those of this bundle, and none of another that is published under its id once it is gone.
    const entries = await this.#index.namesOf(id);
    const doomed = this.#stagings.doomedPath();
    try {
      await rename(this.folder(id), doomed);
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
    await syncFolder(this.#bundles);
    await rm(doomed, { recursive: true, force: true });
    for (const entry of entries) await this.#index.remove(entry);
    await this.annotations.remove(id);
    return true;
  }

  /** Refuses links, so that a bundle never leads out of its folder. */
  async #open(id: string, name: string): Promise<FileHandle> {
    const location = this.path(id, name);
    try {
      const handle = await open(location, constants.O_RDONLY | constants.O_NOFOLLOW);
      if ((await handle.stat()).isFile()) return handle;
      await handle.close();
    } catch (error) {
      throw this.#absent(error, `file ${name} of ${id}`);
    }
    throw bundleNotFound(this.#kind, `file ${name} of ${id}`);
  }

  #absent(error: unknown, what: string): unknown {
    return isAbsent(error) ? bundleNotFound(this.#kind, what) : error;
  }
}

async function isFolder(location: string): Promise<boolean> {
  try {
    return (await stat(location)).isDirectory();
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

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

const STAGED_NAME = 'text';

/** Texts as files of a folder, which is made when needed. A text is staged, and gets its name once it is on the disk. */
function localNamedTexts(folder: string, stagings: Pick<LocalStagings, 'stage'>): NamedTexts {
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
