import { stat, utimes } from 'node:fs/promises';
import { AdapterFile, closed, ProductError } from '@lorasmith/contracts';
import { type LocalBundleStore, type Staging, totalBytes } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/** Stored with the files of a merged model, and not served. */
const RECORD_FILE = 'merged-files.json';

const MergedRecord = Type.Object({ files: Type.Array(AdapterFile) }, closed);
const recordSchema = Compile(MergedRecord);

interface Entry {
  bytes: number;
  lastUsedMs: number;
}

/** Merged models and GGUF files on disk, by the id of their bundle, with a limit in bytes. The least recently used one is evicted first. */
export class MergedCache {
  readonly #store: LocalBundleStore;
  readonly #maxBytes: number;
  readonly #onEvicted: (id: string, bytes: number) => void;
  readonly #entries = new Map<string, Entry>();
  /** Number of pins by id. A pinned model is not evicted. */
  readonly #pins = new Map<string, number>();
  readonly #removals = new Map<string, Promise<unknown>>();

  /**
   * @param maxBytes - Limit for all merged models together
   * @param onEvicted - Called for each evicted model
   */
  constructor(store: LocalBundleStore, maxBytes: number, onEvicted: (id: string, bytes: number) => void) {
    this.#store = store;
    this.#maxBytes = maxBytes;
    this.#onEvicted = onEvicted;
  }

  usage(): { models: number; bytes: number; limitBytes: number } {
    return { models: this.#entries.size, bytes: this.#usedBytes(), limitBytes: this.#maxBytes };
  }

  /** The ids of all models. */
  ids(): string[] {
    return [...this.#entries.keys()];
  }

  /** Loads the models of an earlier process. Removes broken ones and those that are no longer wanted. */
  async load(isWanted: (id: string) => Promise<boolean>): Promise<void> {
    for (const id of await this.#store.list()) {
      const found = await this.#read(id);
      if (found === null || !(await isWanted(id))) await this.remove(id);
      // Each use sets the modification time of the folder.
      else this.#entries.set(id, { bytes: found.bytes, lastUsedMs: (await stat(this.#store.folder(id))).mtimeMs });
    }
    await this.#evict(this.#maxBytes);
  }

  /** Keeps `id` from being evicted until the returned function is called. */
  pin(id: string): () => void {
    this.#pins.set(id, (this.#pins.get(id) ?? 0) + 1);
    let isPinned = true;
    return () => {
      if (!isPinned) return;
      isPinned = false;
      const left = this.#pins.get(id)! - 1;
      if (left > 0) this.#pins.set(id, left);
      else this.#pins.delete(id);
    };
  }

  /** The files of a merged model, or null if it is missing. Counts as a use. Pin it before. */
  async files(id: string): Promise<AdapterFile[] | null> {
    await this.#removals.get(id);
    const found = await this.#read(id);
    if (found === null) {
      await this.remove(id);
      return null;
    }
    const now = new Date();
    this.#entries.set(id, { bytes: found.bytes, lastUsedMs: now.getTime() });
    // A failure affects only the order of eviction after a restart.
    await utimes(this.#store.folder(id), now, now).catch(() => {});
    return found.files;
  }

  /**
   * Evicts models that are not in use until a new model of this size fits.
   * @throws ProductError `storage_full` if it can never fit; `service_unavailable` if models in use take the space
   */
  async evictFor(bytes: number): Promise<void> {
    const mebibytes = (value: number) => `${(value / 2 ** 20).toFixed(1)} MiB`;
    if (bytes > this.#maxBytes) {
      const message = `The merged model needs ${mebibytes(bytes)}, but the limit for merged models is ${mebibytes(this.#maxBytes)}. Raise MERGED_CACHE_BYTES.`;
      throw new ProductError('storage_full', message);
    }
    await this.#evict(this.#maxBytes - bytes);
    if (this.#usedBytes() + bytes > this.#maxBytes) {
      const message = 'Merged models that are being downloaded use all the space for merged models. Try again later.';
      throw new ProductError('service_unavailable', message);
    }
  }

  /** Publishes a staged folder as the merged model `id`. If another process was faster, its model is used. */
  async publish(id: string, staging: Staging, files: AdapterFile[]): Promise<void> {
    const record: Static<typeof MergedRecord> = { files };
    await staging.write(RECORD_FILE, [Buffer.from(JSON.stringify(record))]);
    await this.#store.publish(staging, id);
  }

  /** Also removes a model in use. Files that are open can still be read completely. */
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
    return totalBytes(this.#entries.values());
  }

  /** Null if the model is missing or incomplete. */
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
