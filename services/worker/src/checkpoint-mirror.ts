import { randomBytes } from 'node:crypto';
import { copyFile, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { type JobId, ProductError } from '@lorasmith/contracts';
import type { BundleLease, BundleStore } from '@lorasmith/storage';

const FILE = /^step-\d{10}\.safetensors$/;
const ID = /^(job_[0-9a-z]+)\.(step-\d{10})\.([0-9a-z]{1,12})$/;

interface StoredCheckpoint {
  id: string;
  name: string;
  writtenMs: number;
}

/**
 * Copies the checkpoints of jobs to a store that several hosts share, a bundle for each. The id of the bundle has the job,
 * the file and when it was written, so a file of the same step of another run is another bundle.
 */
export class CheckpointMirror {
  readonly #bundles: BundleStore;
  /** The bundles that this mirror has stored or restored, by job. */
  readonly #known = new Map<JobId, Set<string>>();

  constructor(bundles: BundleStore) {
    this.#bundles = bundles;
  }

  /** Copies into the folder what any host has stored of the job, unless the folder has it already, or a newer one. */
  async restore(job: JobId, folder: string): Promise<void> {
    const stored = await this.#storedOf(job);
    const ids = new Set(stored.map(({ id }) => id));
    // Another worker has removed these since. Where the folder still has one, it is stored again.
    for (const id of this.#knownOf(job)) if (!ids.has(id)) this.#knownOf(job).delete(id);
    for (const { id, name, writtenMs } of stored) {
      const there = await writtenAt(path.join(folder, name));
      if (there !== null && there >= writtenMs) {
        if (there === writtenMs) this.#knownOf(job).add(id);
        continue;
      }
      const lease = await leaseIfThere(this.#bundles, id);
      if (lease === null) continue;
      try {
        await restoreFile(lease.path(name), path.join(folder, name), writtenMs);
        this.#knownOf(job).add(id);
      } finally {
        lease.release();
      }
    }
  }

  /**
   * Stores what is new in the folder, then removes from the store what this mirror had stored or restored and is no longer
   * in the folder. Bundles that it does not know are another worker's and stay.
   */
  async store(job: JobId, folder: string): Promise<void> {
    const current = new Set<string>();
    for (const name of (await readdir(folder)).filter((file) => FILE.test(file))) {
      const file = path.join(folder, name);
      const writtenMs = await writtenAt(file);
      // A newer one has replaced it meanwhile.
      if (writtenMs === null) continue;
      const id = `${job}.${path.basename(name, '.safetensors')}.${writtenMs.toString(36)}`;
      current.add(id);
      if (this.#knownOf(job).has(id)) continue;
      await storeFile(this.#bundles, { id, file, name });
      this.#knownOf(job).add(id);
    }
    for (const id of this.#knownOf(job)) {
      if (current.has(id)) continue;
      await this.#bundles.delete(id);
      this.#knownOf(job).delete(id);
    }
  }

  /** Removes everything of the job. */
  async remove(job: JobId): Promise<void> {
    this.#known.delete(job);
    for (const { id } of await this.#storedOf(job)) await this.#bundles.delete(id);
  }

  /** The jobs that have something in the store. */
  async jobs(): Promise<JobId[]> {
    return [...new Set((await this.#bundles.list()).flatMap((id) => ID.exec(id)?.[1] ?? []))];
  }

  #knownOf(job: JobId): Set<string> {
    const ids = this.#known.get(job) ?? new Set();
    this.#known.set(job, ids);
    return ids;
  }

  async #storedOf(job: JobId): Promise<StoredCheckpoint[]> {
    return (await this.#bundles.list(`${job}.`)).flatMap((id) => {
      const [, , step, written] = ID.exec(id) ?? [];
      return step === undefined ? [] : [{ id, name: `${step}.safetensors`, writtenMs: Number.parseInt(written!, 36) }];
    });
  }
}

/** Null where it was removed since it was listed: the worker that saved it may still run, and keeps its newest only. */
async function leaseIfThere(bundles: BundleStore, id: string): Promise<BundleLease | null> {
  try {
    return await bundles.lease(id);
  } catch (error) {
    if (error instanceof ProductError && error.code === 'not_found') return null;
    throw error;
  }
}

async function restoreFile(from: string, to: string, writtenMs: number): Promise<void> {
  // Its name is one of those that are removed after a killed trainer. Another restoration has another one.
  const temporary = `${to}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await copyFile(from, temporary);
    // To the middle of the millisecond: `utimes` rounds, half the time to the one before, which would be another id.
    await utimes(temporary, new Date(), (writtenMs + 0.5) / 1000);
    await rename(temporary, to);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function storeFile(
  bundles: BundleStore,
  { id, file, name }: { id: string; file: string; name: string },
): Promise<void> {
  const staging = await bundles.stage();
  try {
    await copyFile(file, path.join(staging.path, name));
    await bundles.publish(staging, id);
  } catch (error) {
    // A newer one replaced it before it was copied.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    await staging.discard();
  }
}

/** The time of writing in whole milliseconds; null where the file is missing. */
async function writtenAt(file: string): Promise<number | null> {
  try {
    return Math.trunc((await stat(file)).mtimeMs);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
