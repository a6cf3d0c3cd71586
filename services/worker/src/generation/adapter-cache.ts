import { readManifestOfFolder } from '@lorasmith/artifacts';
import { Semaphore } from '@lorasmith/concurrency';
import { type AdapterId, ProductError, type SnapshotId } from '@lorasmith/contracts';
import { baseMismatch } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';

export interface LeasedAdapter {
  adapter: LoraAdapter;
  release(): void;
}

interface CachedAdapter {
  adapter: LoraAdapter;
  bytes: number;
  leases: number;
}

export interface AdapterCacheOptions {
  decoder: Decoder;
  /** The loaded base. */
  base: { name: string; weights_sha256: string };
  /** Maximum bytes of all adapters in memory together. */
  maxBytes: number;
}

/** Parameters are float32; a copy in the model's dtype is made of them. */
const BYTES_PER_PARAMETER = 8;

/** The adapters of a base model that are in memory, the least recently used removed first. An id always has the same bytes. */
export class AdapterCache {
  readonly #options: AdapterCacheOptions;
  /** Adapters in the order of their last use. */
  readonly #cached = new Map<AdapterId | SnapshotId, CachedAdapter>();
  /** One at a time, so that two requests do not load the same adapter. */
  readonly #leasing = new Semaphore(1);

  constructor(options: AdapterCacheOptions) {
    this.#options = options;
  }

  /**
   * The adapter in this folder, loaded unless it is in memory.
   * @throws ProductError `invalid_adapter` for one of another base model; `service_unavailable` where too many are in use
   */
  async lease(id: AdapterId | SnapshotId, folder: string): Promise<LeasedAdapter> {
    return await this.#leasing.run(() => this.#lease(id, folder));
  }

  async #lease(id: AdapterId | SnapshotId, folder: string): Promise<LeasedAdapter> {
    const cached = this.#cached.get(id) ?? (await this.#load(id, folder));
    this.#cached.delete(id);
    this.#cached.set(id, cached);
    cached.leases++;
    let isReleased = false;
    const release = () => {
      if (!isReleased) cached.leases--;
      isReleased = true;
    };
    return { adapter: cached.adapter, release };
  }

  async #load(id: AdapterId | SnapshotId, folder: string): Promise<CachedAdapter> {
    const { decoder, base } = this.#options;
    const manifest = await readManifestOfFolder(folder);
    const mismatch = manifest === null ? null : baseMismatch(id, manifest.base_model, base);
    if (mismatch !== null) throw new ProductError('invalid_adapter', mismatch, { param: 'model' });
    const initial = await readPeftFolder(folder);
    const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
    const parameters = [...initial.modules.values()].reduce((sum, { a, b }) => sum + a.length + b.length, 0);
    const bytes = parameters * BYTES_PER_PARAMETER;
    this.#makeSpace(bytes);
    const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0, initial });
    return { adapter, bytes, leases: 0 };
  }

  #makeSpace(bytes: number): void {
    const used = () => [...this.#cached.values()].reduce((sum, one) => sum + one.bytes, 0);
    for (const [id, { adapter, leases }] of this.#cached) {
      if (used() + bytes <= this.#options.maxBytes) return;
      if (leases > 0) continue;
      this.#cached.delete(id);
      adapter.dispose();
    }
    if (this.#cached.size === 0 || used() + bytes <= this.#options.maxBytes) return;
    const message = `The adapter needs ${bytes} bytes, which are not free while others are in use. Try again later.`;
    throw new ProductError('service_unavailable', message, { retryAfterSeconds: 10 });
  }

  /** Frees all adapters, which nobody uses any more. */
  dispose(): void {
    for (const { adapter } of this.#cached.values()) adapter.dispose();
    this.#cached.clear();
  }
}
