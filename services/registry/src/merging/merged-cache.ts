import { stat, utimes } from 'node:fs/promises';
import { AdapterFile, ProductError } from '@lorasmith/contracts';
import type { LocalBundleStore, Staging } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/** Beside the files of a merged model; not served. */
const RECORD_FILE = 'merged-files.json';

const MergedRecord = Type.Object({ files: Type.Array(AdapterFile) }, { additionalProperties: false });
const recordSchema = Compile(MergedRecord);

interface Entry {
  bytes: number;
  lastUsedMs: number;
}

/** Merged models on disk, under the ids of their adapters, bounded in bytes: the least recently used goes first. */
export class MergedCache {
  readonly #store: LocalBundleStore;
  readonly #maxBytes: number;
  readonly #onEvicted: (id: string, bytes: number) => void;
  readonly #entries = new Map<string, Entry>();
  /** How many hold each id against eviction. */
  readonly #pins = new Map<string, number>();
  readonly #removals = new Map<string, Promise<unknown>>();

  /**
   * @param maxBytes of all merged models together
   * @param onEvicted told of each that had to go for others
   */
  constructor(store: LocalBundleStore, maxBytes: number, onEvicted: (id: string, bytes: number) => void) {
    this.#store = store;
    this.#maxBytes = maxBytes;
    this.#onEvicted = onEvicted;
  }

  usage(): { models: number; bytes: number; limitBytes: number } {
    return { models: this.#entries.size, bytes: this.#usedBytes(), limitBytes: this.#maxBytes };
  }

  /** Learns what an earlier process left; removes what is broken and what is not wanted any more. */
  async load(isWanted: (id: string) => Promise<boolean>): Promise<void> {
    for (const id of await this.#store.list()) {
      const found = await this.#read(id);
      if (found === null || !(await isWanted(id))) await this.remove(id);
      // The folder's time is set at each use.
      else this.#entries.set(id, { bytes: found.bytes, lastUsedMs: (await stat(this.#store.folder(id))).mtimeMs });
    }
    await this.#evict(this.#maxBytes);
  }

  /** Keeps `id` from being evicted until the returned function is called. */
  pin(id: string): () => void {
    this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = this.#pins.get(id)! - 1;
      if (left > 0) this.#pins.set(id, left);
      else this.#pins.delete(id);
    };
  }

  /** The files of a merged model, which counts as used now; null when it is not there. Pin it before. */
  async files(id: string): Promise<AdapterFile[] | null> {
    await this.#removals.get(id);
    const found = await this.#read(id);
    if (found === null) {
      await this.remove(id);
      return null;
    }
    const now = new Date();
    this.#entries.set(id, { bytes: found.bytes, lastUsedMs: now.getTime() });
    // Only the order of eviction after a restart hangs on it.
    await utimes(this.#store.folder(id), now, now).catch(() => {});
    return found.files;
  }

  /**
   * Evicts until a new model of this size fits. Models in use stay.
   * @throws ProductError storage_full when it can never fit; service_unavailable when models in use take the room
   */
  async makeRoom(bytes: number): Promise<void> {
    const mebibytes = (value: number) => `${(value / 2 ** 20).toFixed(1)} MiB`;
    if (bytes > this.#maxBytes) {
      const message = `The merged model takes ${mebibytes(bytes)}, but the limit for merged models is ${mebibytes(this.#maxBytes)}. Raise MERGED_CACHE_BYTES.`;
      throw new ProductError('storage_full', message);
    }
    await this.#evict(this.#maxBytes - bytes);
    if (this.#usedBytes() + bytes > this.#maxBytes) {
      const message = 'Merged models that are being downloaded take all the space for merged models. Try again later.';
      throw new ProductError('service_unavailable', message);
    }
  }

  /** Makes a staged folder the merged model `id`; when another process was faster, its model stays. */
  async publish(id: string, staging: Staging, files: AdapterFile[]): Promise<void> {
    const record: Static<typeof MergedRecord> = { files };
    await staging.write(RECORD_FILE, [Buffer.from(JSON.stringify(record))]);
    await this.#store.publish(staging, id);
  }

  /** Also while it is in use: what is open can be read to its end. */
  async remove(id: string): Promise<void> {
    this.#entries.delete(id);
    const removal = this.#store.delete(id);
    this.#removals.set(id, removal);
    try {
      await removal;
    } finally {
      if (this.#removals.get(id) === removal) this.#removals.delete(id);
    }
  }

  async #evict(toBytes: number): Promise<void> {
    while (this.#usedBytes() > toBytes) {
      const evictable = [...this.#entries].filter(([id]) => !this.#pins.has(id));
      const [oldest] = evictable.sort(([, a], [, b]) => a.lastUsedMs - b.lastUsedMs);
      if (oldest === undefined) return;
      const [id, { bytes }] = oldest;
      await this.remove(id);
      this.#onEvicted(id, bytes);
    }
  }

  #usedBytes(): number {
    return [...this.#entries.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Null for what is not there, or not whole. */
  async #read(id: string): Promise<{ files: AdapterFile[]; bytes: number } | null> {
    try {
      const record = await this.#store.readJson(id, RECORD_FILE);
      const sizes = new Map((await this.#store.files(id)).map(({ name, bytes }) => [name, bytes]));
      if (!recordSchema.Check(record) || record.files.some(({ name, bytes }) => sizes.get(name) !== bytes)) return null;
      return { files: record.files, bytes: [...sizes.values()].reduce((sum, size) => sum + size, 0) };
    } catch (error) {
      if (error instanceof ProductError) return null;
      throw error;
    }
  }
}
