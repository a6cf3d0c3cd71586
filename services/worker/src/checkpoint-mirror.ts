import { randomBytes } from 'node:crypto';
import { copyFile, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { type JobId, ProductError } from '@lorasmith/contracts';
import type { BundleStore, HeldBundle } from '@lorasmith/storage';

/**
 * Copies the checkpoints of jobs to a store that several hosts share, a bundle for each. The id of the bundle has the job,
 * the file and when it was written, so a file of the same step of another run is another bundle.
 */
export interface CheckpointMirror {
  /** Copies into the folder what any host has stored of the job, unless the folder has it already, or a newer one. */
  restore(job: JobId, folder: string): Promise<void>;
  /**
   * Stores what is new in the folder, then removes from the store what this mirror had stored or restored and is no longer
   * in the folder. Bundles that it does not know are another worker's and stay.
   */
  store(job: JobId, folder: string): Promise<void>;
  /** Removes everything of the job. */
  remove(job: JobId): Promise<void>;
  /** The jobs that have something in the store. */
  jobs(): Promise<JobId[]>;
}

const FILE = /^step-\d{10}\.safetensors$/;
const ID = /^(job_[0-9a-z]+)\.(step-\d{10})\.([0-9a-z]{1,12})$/;

interface StoredCheckpoint {
  id: string;
  name: string;
  writtenMs: number;
}

export function createCheckpointMirror(bundles: BundleStore): CheckpointMirror {
  /** The bundles that this mirror has stored or restored, by job. */
  const known = new Map<JobId, Set<string>>();
  const knownOf = (job: JobId) => {
    const ids = known.get(job) ?? new Set();
    known.set(job, ids);
    return ids;
  };
  const storedOf = async (job: JobId): Promise<StoredCheckpoint[]> =>
    (await bundles.list(`${job}.`)).flatMap((id) => {
      const [, , step, written] = ID.exec(id) ?? [];
      return step === undefined ? [] : [{ id, name: `${step}.safetensors`, writtenMs: Number.parseInt(written!, 36) }];
    });

  return {
    async restore(job, folder) {
      const stored = await storedOf(job);
      const ids = new Set(stored.map(({ id }) => id));
      // Another worker has removed these since. Where the folder still has one, it is stored again.
      for (const id of knownOf(job)) if (!ids.has(id)) knownOf(job).delete(id);
      for (const { id, name, writtenMs } of stored) {
        const there = await writtenAt(path.join(folder, name));
        if (there !== null && there >= writtenMs) {
          if (there === writtenMs) knownOf(job).add(id);
          continue;
        }
        const held = await holdIfThere(bundles, id);
        if (held === null) continue;
        // Its name is one of those that are removed after a killed trainer. Another restoration has another one.
        const temporary = path.join(folder, `${name}.${randomBytes(6).toString('hex')}.tmp`);
        try {
          await copyFile(held.path(name), temporary);
          // To the middle of the millisecond: `utimes` rounds, half the time to the one before, which would be another id.
          await utimes(temporary, new Date(), (writtenMs + 0.5) / 1000);
          await rename(temporary, path.join(folder, name));
          knownOf(job).add(id);
        } finally {
          held.release();
          await rm(temporary, { force: true });
        }
      }
    },

    async store(job, folder) {
      const current = new Set<string>();
      for (const name of (await readdir(folder)).filter((file) => FILE.test(file))) {
        const file = path.join(folder, name);
        const writtenMs = await writtenAt(file);
        // A newer one has replaced it meanwhile.
        if (writtenMs === null) continue;
        const id = `${job}.${path.basename(name, '.safetensors')}.${writtenMs.toString(36)}`;
        current.add(id);
        if (knownOf(job).has(id)) continue;
        await storeFile(bundles, { id, file, name });
        knownOf(job).add(id);
      }
      for (const id of knownOf(job)) {
        if (current.has(id)) continue;
        await bundles.delete(id);
        knownOf(job).delete(id);
      }
    },

    async remove(job) {
      known.delete(job);
      for (const { id } of await storedOf(job)) await bundles.delete(id);
    },

    async jobs() {
      return [...new Set((await bundles.list()).flatMap((id) => ID.exec(id)?.[1] ?? []))];
    },
  };
}

/** Null where it was removed since it was listed: the worker that saved it may still run, and keeps its newest only. */
async function holdIfThere(bundles: BundleStore, id: string): Promise<HeldBundle | null> {
  try {
    return await bundles.hold(id);
  } catch (error) {
    if (error instanceof ProductError && error.code === 'not_found') return null;
    throw error;
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
