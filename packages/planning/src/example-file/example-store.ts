import { open, readdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { type LocalBundleStore, openBundleStore } from '@lorasmith/storage';
import {
  EXAMPLE_FILES,
  type ExampleFile,
  type ExampleNotes,
  type ExampleRecord,
  type ExampleSummary,
  ExampleWriter,
  openExampleFile,
  RecordWriter,
} from './example-file.js';

export interface ExampleStoreOptions {
  /** Examples are in its folder `tokens`. */
  dataDir: string;
  /** Maximum bytes of all examples together. Examples in use are never evicted. */
  maxBytes: number;
}

/** Examples opened for reading. They are not evicted until they are closed. */
export interface OpenExamples {
  readonly file: ExampleFile;
  close(): Promise<void>;
}

/** The facts about examples that are known without reading them. */
export interface StoredExamples {
  /** Bytes of their files. */
  bytes: number;
}

/** Identifies the examples of a dataset. The digest changes with everything that changes them. */
export interface ExampleId {
  dataset: string;
  /** Hexadecimal. */
  digest: string;
}

/**
 * A cache of datasets as tokens, bounded in bytes: the least recently used are evicted first. What is missing or damaged is
 * made again. Safe with several processes on the same folder.
 */
export interface ExampleStore {
  /** Null when they are missing. Damage is only found when they are opened. */
  find(id: ExampleId): Promise<StoredExamples | null>;
  /** Null when they are missing or damaged. @throws ProductError `cancelled` */
  open(id: ExampleId, signal?: AbortSignal): Promise<OpenExamples | null>;
  /**
   * Makes the examples and stores them. If another process was faster, its examples stay; they are the same.
   *
   * @param fill writes every example; null when nothing is to be stored
   * @throws ProductError `storage_full`, `cancelled`; what `fill` throws
   */
  make(
    id: ExampleId,
    fill: (writer: ExampleWriter) => Promise<ExampleNotes | null>,
    signal?: AbortSignal,
  ): Promise<OpenExamples | null>;
  /**
   * Examples that are parts of others. Only their index is written, to a file that is gone once it is closed.
   *
   * @param from belongs to the result, and is closed with it
   * @param fill adds the record of every example: some of the codes of one of those
   * @throws ProductError `storage_full`; what `fill` throws
   */
  select(
    from: OpenExamples,
    fill: (add: (record: ExampleRecord) => void) => Promise<ExampleNotes>,
  ): Promise<OpenExamples>;
  /** Removes all examples of a dataset, for instance because it was deleted. */
  removeDataset(dataset: string): Promise<void>;
  /** Removes the examples of datasets that no longer exist. @returns how many */
  sweep(isThere: (dataset: string) => Promise<boolean>): Promise<number>;
}

/** The interval at which an open file updates the time of its folder, to show that it is in use. */
const TOUCH_EVERY_MS = 60_000;
/** A folder with an older time is not in use. Many times what an engine call or a slow disk takes. */
const IN_USE_MS = 15 * 60_000;
/** A staging folder that was not written to for this long was left by a process that died. */
const STALE_STAGING_MS = 3_600_000;

export async function openExampleStore({ dataDir, maxBytes }: ExampleStoreOptions): Promise<ExampleStore> {
  const bundles = await openBundleStore({ root: dataDir, kind: 'tokens' });

  return {
    async find(id) {
      const found = await sizeOf(bundles, bundleName(id));
      return found && { bytes: found.bytes };
    },

    async open(id, signal) {
      const name = bundleName(id);
      if (!(await bundles.has(name))) return null;
      const file = await openExampleFile(bundles.folder(name), signal);
      if (file !== null) return heldOpen(bundles, name, file);
      await bundles.delete(name);
      return null;
    },

    async make(id, fill, signal) {
      await bundles.sweepStaging(STALE_STAGING_MS);
      const name = bundleName(id);
      const staging = await bundles.stage();
      try {
        const writer = new ExampleWriter(staging.path);
        try {
          const notes = await fill(writer);
          if (notes === null) return null;
          const summary: ExampleSummary = { count: writer.count, notes, files: writer.finish() };
          await staging.write(EXAMPLE_FILES.summary, [Buffer.from(JSON.stringify(summary))]);
        } finally {
          writer.close();
        }
        // Open before others see it and may remove it.
        const file = await openExampleFile(staging.path, signal);
        if (file === null) throw new Error('the examples just written do not read back');
        await bundles.publish(staging, name);
        await evict(bundles, maxBytes);
        return heldOpen(bundles, name, file);
      } finally {
        await staging.discard();
      }
    },

    async select(from, fill) {
      const staging = await bundles.stage();
      try {
        const path = join(staging.path, EXAMPLE_FILES.index);
        const writer = new RecordWriter(path);
        try {
          const notes = await fill((record) => writer.add(record));
          const { words } = from.file.summary.files;
          const summary = { count: writer.count, notes, files: { index: writer.finish(), words } };
          const index = await open(path, 'r');
          return {
            file: from.file.withIndex(index, summary),
            close: async () => {
              await index.close();
              await from.close();
            },
          };
        } finally {
          writer.close();
        }
      } finally {
        await staging.discard();
      }
    },

    async removeDataset(dataset) {
      for (const name of await bundles.list()) if (datasetOf(name) === dataset) await bundles.delete(name);
    },

    async sweep(isThere) {
      let removed = await bundles.sweepStaging(STALE_STAGING_MS);
      for (const name of await bundles.list()) {
        if (!(await isThere(datasetOf(name))) && (await bundles.delete(name))) removed++;
      }
      await evict(bundles, maxBytes);
      return removed;
    },
  };
}

function bundleName({ dataset, digest }: ExampleId): string {
  return `${dataset}-${digest}`;
}

function datasetOf(name: string): string {
  return name.slice(0, name.lastIndexOf('-'));
}

/** An open file stays readable if its folder is removed. Keeping the folder spares other processes the work. */
async function heldOpen(bundles: LocalBundleStore, name: string, file: ExampleFile): Promise<OpenExamples> {
  const touch = async () => {
    const now = new Date();
    // The folder may have been removed, for instance with its dataset.
    await utimes(bundles.folder(name), now, now).catch(() => {});
  };
  await touch();
  const timer = setInterval(() => void touch(), TOUCH_EVERY_MS).unref();
  return {
    file,
    async close() {
      clearInterval(timer);
      await file.close();
    },
  };
}

/** Removes the least recently used examples until the rest is within the bound, or in use. */
async function evict(bundles: LocalBundleStore, maxBytes: number): Promise<void> {
  const entries = await Promise.all((await bundles.list()).map((name) => sizeOf(bundles, name)));
  const oldestFirst = entries.filter((entry) => entry !== null).sort((a, b) => a.usedMs - b.usedMs);
  let bytes = oldestFirst.reduce((sum, entry) => sum + entry.bytes, 0);
  for (const entry of oldestFirst) {
    if (bytes <= maxBytes || Date.now() - entry.usedMs < IN_USE_MS) return;
    await bundles.delete(entry.name);
    bytes -= entry.bytes;
  }
}

async function sizeOf(
  bundles: LocalBundleStore,
  name: string,
): Promise<{ name: string; bytes: number; usedMs: number } | null> {
  const folder = bundles.folder(name);
  try {
    const { mtimeMs } = await stat(folder);
    const sizes = await Promise.all((await readdir(folder)).map(async (file) => (await stat(join(folder, file))).size));
    return { name, bytes: sizes.reduce((sum, size) => sum + size, 0), usedMs: mtimeMs };
  } catch {
    // Another process removed it just now.
    return null;
  }
}
