import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ProductError } from '@lorasmith/contracts';
import { type BundleLease, isBundleFileName, type Staging } from './bundle-store.js';
import { totalBytes } from './digest-stream.js';
import { isAbsent, isOccupied } from './local-files.js';
import { type LocalStagings, openLocalStagings, syncTree } from './local-staging.js';

/** The interval at which a process renews the lease of a bundle that it holds. */
const LEASE_RENEWAL_MS = 60_000;
/** The time without a renewal after which a process is considered dead. */
const LEASE_LASTS_MS = 300_000;
/** Age at which a download of a process that died is removed. */
const ABANDONED_MS = 24 * 3_600_000;

export interface CachedBundle {
  /** A folder name. Always means the same bytes. */
  key: string;
  /** Name of its folder for holders. */
  id: string;
  bytes: number;
  /** Fills the staged folder and checks its content. */
  fetch(staging: Staging): Promise<void>;
}

/** Copies of bundles on this host, with a limit in bytes. The least recently used are removed first; copies in use never. */
export interface BundleCache {
  /**
   * The bundle on this host. Fetches it if necessary, once for concurrent calls in this process.
   * @throws ProductError `storage_full` if it does not fit beside the copies in use; errors of fetching
   */
  lease(bundle: CachedBundle): Promise<BundleLease>;
  /** Path of the bundle's folder, if it is on this host. It may be removed at any time. */
  peek(key: string, id: string): Promise<string | null>;
  /** Uses a staged folder as the copy instead of fetching it. Consumes the staging. */
  adopt(bundle: Omit<CachedBundle, 'fetch'>, staging: Staging): Promise<void>;
  remove(key: string): Promise<void>;
  usedBytes(): Promise<number>;
}

export interface BundleCacheOptions {
  /** The data folder; the copies are in `root/cache`. Several processes may share it. */
  root: string;
  maxBytes: number;
}

/**
 * `cache/<key>/content/<id>/…`, and beside `content` one lease file per holder, whose modification time shows that it is
 * alive. The modification time of `cache/<key>` is that of the last use.
 */
export async function openBundleCache({ root, maxBytes }: BundleCacheOptions): Promise<BundleCache> {
  const folder = path.resolve(root, 'cache');
  await mkdir(folder, { recursive: true });
  const stagings = await openLocalStagings({ root, kind: 'cache' });
  await stagings.sweep(ABANDONED_MS);
  const fetching = new Map<string, Promise<void>>();

  const contentOf = (key: string, id: string) => path.join(folder, key, 'content', id);
  const leasesOf = (key: string) => path.join(folder, key, 'leases');

  const peek = async (key: string, id: string) => ((await exists(contentOf(key, id))) ? contentOf(key, id) : null);

  const place = async ({ key, id }: Omit<CachedBundle, 'fetch'>, staging: Staging): Promise<void> => {
    await syncTree(staging.path);
    const whole = stagings.doomedPath();
    try {
      await mkdir(path.join(whole, 'content'), { recursive: true });
      await mkdir(path.join(whole, 'leases'));
      await rename(staging.path, path.join(whole, 'content', id));
      await rename(whole, path.join(folder, key));
    } catch (error) {
      // Another process was faster, and its copy has the same bytes.
      if (!(await exists(contentOf(key, id)))) throw error;
    } finally {
      await rm(whole, { recursive: true, force: true });
    }
  };

  const fetch = async (bundle: CachedBundle): Promise<void> => {
    await freeSpace({ folder, stagings, maxBytes, bytes: bundle.bytes });
    const staging = await stagings.stage();
    try {
      await bundle.fetch(staging);
      await place(bundle, staging);
    } finally {
      await staging.discard();
    }
  };

  /** Marks the bundle as in use; null when it is missing. */
  const lease = async (key: string, id: string): Promise<(() => void) | null> => {
    const file = path.join(leasesOf(key), randomBytes(8).toString('hex'));
    try {
      await writeFile(file, String(process.pid));
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
    // It may have been removed before the lease was written.
    if (!(await exists(contentOf(key, id)))) return null;
    const touch = async (location: string) => {
      const now = new Date();
      await utimes(location, now, now).catch(() => {});
    };
    await touch(path.join(folder, key));
    const renewal = setInterval(() => void touch(file), LEASE_RENEWAL_MS).unref();
    return () => {
      clearInterval(renewal);
      // A lease that cannot be removed expires.
      rm(file, { force: true }).catch(() => {});
    };
  };

  return {
    peek,
    async lease(bundle) {
      const { key, id } = bundle;
      for (;;) {
        const release = await lease(key, id);
        if (release !== null) {
          const location = contentOf(key, id);
          const file = (name: string) => {
            if (isBundleFileName(name)) return path.join(location, name);
            throw new ProductError('not_found', `There is no file ${JSON.stringify(name.slice(0, 260))} of ${id}.`);
          };
          return { folder: location, path: file, release };
        }
        const running = fetching.get(key) ?? fetch(bundle).finally(() => fetching.delete(key));
        fetching.set(key, running);
        await running;
      }
    },
    async adopt(bundle, staging) {
      if (bundle.bytes > maxBytes) return;
      await freeSpace({ folder, stagings, maxBytes, bytes: bundle.bytes });
      await place(bundle, staging);
    },
    remove: (key) => removeCopy(folder, stagings, key),
    usedBytes: async () => totalBytes(await copies(folder)),
  };
}

interface Copy {
  key: string;
  bytes: number;
  lastUsedMs: number;
}

async function copies(folder: string): Promise<Copy[]> {
  const found: Copy[] = [];
  for (const key of await readdir(folder)) {
    try {
      const { mtimeMs } = await stat(path.join(folder, key));
      found.push({ key, lastUsedMs: mtimeMs, bytes: await sizeOf(path.join(folder, key, 'content')) });
    } catch (error) {
      if (!isAbsent(error)) throw error;
    }
  }
  return found;
}

async function sizeOf(content: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(content, { withFileTypes: true, recursive: true })) {
    // Blocks, not length: a model without weights has the length of its model, but not its bytes.
    if (entry.isFile()) bytes += (await stat(path.join(entry.parentPath, entry.name))).blocks * 512;
  }
  return bytes;
}

async function freeSpace(options: {
  folder: string;
  stagings: LocalStagings;
  maxBytes: number;
  bytes: number;
}): Promise<void> {
  const { folder, stagings, maxBytes, bytes } = options;
  const found = (await copies(folder)).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  let used = found.reduce((sum, copy) => sum + copy.bytes, 0);
  for (const copy of found) {
    if (used + bytes <= maxBytes) return;
    if (await inUse(path.join(folder, copy.key, 'leases'))) continue;
    await removeCopy(folder, stagings, copy.key);
    used -= copy.bytes;
  }
  if (used + bytes <= maxBytes) return;
  const gibibytes = (value: number) => `${(value / 2 ** 30).toFixed(2)} GiB`;
  throw new ProductError(
    'storage_full',
    `The copy needs ${gibibytes(bytes)}, but ${gibibytes(used)} of the ${gibibytes(maxBytes)} for copies of the store ` +
      'are in use. Raise STORE_CACHE_BYTES.',
  );
}

async function removeCopy(folder: string, stagings: LocalStagings, key: string): Promise<void> {
  const doomed = stagings.doomedPath();
  try {
    await rename(path.join(folder, key), doomed);
  } catch (error) {
    if (isAbsent(error)) return;
    throw error;
  }
  // A process that leased it before the rename finds it again a moment later.
  if (await inUse(path.join(doomed, 'leases'))) await putBack(doomed, path.join(folder, key));
  await rm(doomed, { recursive: true, force: true });
}

/** Leases move to the newer copy where the same bytes have been fetched again meanwhile. */
async function putBack(doomed: string, location: string): Promise<void> {
  for (;;) {
    try {
      return await rename(doomed, location);
    } catch (error) {
      if (!isOccupied(error)) throw error;
    }
    try {
      for (const lease of await readdir(path.join(doomed, 'leases'))) {
        await rename(path.join(doomed, 'leases', lease), path.join(location, 'leases', lease));
      }
      return;
    } catch (error) {
      // That copy has been removed, too.
      if (!isAbsent(error)) throw error;
    }
  }
}

/** False for a copy that another hold has removed. */
async function inUse(leases: string): Promise<boolean> {
  const names = await readdir(leases).catch((error: unknown) => {
    if (isAbsent(error)) return [];
    throw error;
  });
  for (const name of names) {
    const lease = await stat(path.join(leases, name)).catch(() => null);
    if (lease !== null && Date.now() - lease.mtimeMs < LEASE_LASTS_MS) return true;
  }
  return false;
}

async function exists(location: string): Promise<boolean> {
  try {
    await stat(location);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}
