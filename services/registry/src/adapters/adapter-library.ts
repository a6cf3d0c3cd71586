import { adapterNotFound, brokenAdapter, readManifest } from '@lorasmith/artifacts';
import { mapWithConcurrency, SharedRounds } from '@lorasmith/concurrency';
import {
  ADAPTER_FILES,
  type Adapter,
  type AdapterFile,
  AdapterId,
  type AdapterManifest,
  type AdapterUsage,
  type Owner,
  type Paged,
  ProductError,
} from '@lorasmith/contracts';
import { type Caller, mayUse } from '@lorasmith/service-kit';
import { type BundleStore, type Digest, digestFile, type HeldBundle, totalBytes } from '@lorasmith/storage';
import { Compile } from 'typebox/compile';

export interface AdapterLibraryDependencies {
  /** Published adapters. */
  store: BundleStore;
  /** Called once for each adapter that lists omit because its manifest cannot be read. */
  onBroken: (id: string, error: unknown) => void;
}

/** An adapter whose files have been compared with the digests of its manifest. */
export interface VerifiedAdapter {
  id: string;
  manifest: AdapterManifest;
  /** Sorted by name, including the manifest. */
  files: AdapterFile[];
}

/** Maximum manifests read concurrently. For a store on other hosts, each is a request. */
const MANIFESTS_AT_ONCE = 32;
/** Maximum checked adapters in memory. The oldest is dropped, and checked again on its next use. */
const MAX_CHECKED = 1_000;

const idSchema = Compile(AdapterId);

/** Lists, checks and deletes the published adapters. */
export class AdapterLibrary {
  readonly #store: BundleStore;
  readonly #onBroken: AdapterLibraryDependencies['onBroken'];
  /** Adapters never change, so each summary is read once. */
  readonly #summaries = new Map<string, Adapter>();
  readonly #checked = new Map<string, Promise<VerifiedAdapter>>();
  readonly #reported = new Set<string>();
  /** All adapters, newest first. Requests at the same time share one look at the store. */
  readonly #all = new SharedRounds(() => this.#summarise());

  constructor({ store, onBroken }: AdapterLibraryDependencies) {
    this.#store = store;
    this.#onBroken = onBroken;
  }

  /**
   * The adapters that the caller may use, newest first, without those whose manifest is broken.
   * @throws ProductError `invalid_request` if `after` is not the id of an adapter
   */
  async list({ after, limit }: { after?: string | undefined; limit: number }, caller: Caller): Promise<Paged<Adapter>> {
    const adapters = (await this.#all.run()).filter(({ owner }) => mayUse(caller, owner));
    const last = after === undefined ? -1 : adapters.findIndex(({ id }) => id === after);
    if (after !== undefined && last === -1) {
      throw new ProductError('invalid_request', `There is no adapter ${after}. Start again at the first page.`, {
        param: 'after',
      });
    }
    const data = adapters.slice(last + 1, last + 1 + limit);
    const has_more = adapters.length > last + 1 + limit;
    return { data, has_more, next: has_more ? data.at(-1)!.id : null };
  }

  /** The item of the list. @throws ProductError `adapter_not_found`; `invalid_adapter` if it is damaged on disk */
  async summary(id: string): Promise<Adapter> {
    return summaryOf(await this.manifest(id));
  }

  /** @throws ProductError `adapter_not_found`; `invalid_adapter` if it is damaged on disk */
  async manifest(id: string): Promise<AdapterManifest> {
    return (await this.check(id)).manifest;
  }

  /**
   * Compares every file with its digest, once in the lifetime of the process.
   * @throws ProductError `adapter_not_found`; `invalid_adapter` naming the file that differs from the manifest
   */
  async check(id: string): Promise<VerifiedAdapter> {
    if (!(await this.has(id))) {
      this.#forget(id);
      throw adapterNotFound(id);
    }
    const known = this.#checked.get(id);
    if (known !== undefined) return await known;
    const checking = this.#readAndCheck(id);
    this.#checked.set(id, checking);
    // A failed check is repeated on the next use: the file may be restored, or the disk may recover.
    checking.catch(() => this.#checked.delete(id));
    const [oldest] = this.#checked.keys();
    if (this.#checked.size > MAX_CHECKED) this.#checked.delete(oldest!);
    return await checking;
  }

  /**
   * Checks that the caller may use the adapter. Accepts an adapter that does not exist: the handler reports that.
   * @throws ProductError `adapter_not_found`, as for an adapter that does not exist
   */
  async checkOwner(id: string, caller: Caller): Promise<void> {
    if (caller.sees === 'all' || !(await this.has(id))) return;
    if (!mayUse(caller, await this.#ownerOf(id))) throw adapterNotFound(id);
  }

  /** Number and bytes of the adapters of the owner, and of all adapters. */
  async usage(owner: Owner): Promise<AdapterUsage> {
    const all = await this.#all.run();
    const own = all.filter((adapter) => adapter.owner === owner);
    return {
      own_adapters: own.length,
      own_bytes: totalBytes(own),
      total_adapters: all.length,
      total_bytes: totalBytes(all),
    };
  }

  async has(id: string): Promise<boolean> {
    return idSchema.Check(id) && (await this.#store.has(id));
  }

  /** @throws ProductError `adapter_not_found` */
  async delete(id: string): Promise<void> {
    const deleted = idSchema.Check(id) && (await this.#store.delete(id));
    this.#forget(id);
    if (!deleted) throw adapterNotFound(id);
  }

  /** Null if the manifest cannot be read. */
  async #ownerOf(id: string): Promise<Owner> {
    const known = this.#summaries.get(id);
    if (known !== undefined) return known.owner;
    return await readManifest(this.#store, id).then(
      ({ owner }) => owner,
      () => null,
    );
  }

  #forget(id: string): void {
    this.#summaries.delete(id);
    this.#checked.delete(id);
  }

  async #summarise(): Promise<Adapter[]> {
    const ids = new Set((await this.#store.list()).filter((id) => idSchema.Check(id)));
    for (const id of this.#summaries.keys()) if (!ids.has(id)) this.#forget(id);
    const unknown = [...ids].filter((id) => !this.#summaries.has(id));
    await mapWithConcurrency(unknown, MANIFESTS_AT_ONCE, async (id) => {
      try {
        this.#summaries.set(id, summaryOf(await readManifest(this.#store, id)));
      } catch (error) {
        if (!this.#reported.has(id)) this.#onBroken(id, error);
        this.#reported.add(id);
      }
    });
    return [...this.#summaries.values()].sort(newestFirst);
  }

  async #readAndCheck(id: string): Promise<VerifiedAdapter> {
    const manifest = await readManifest(this.#store, id);
    // This copies the adapter to this host, from where downloads are then read.
    const held = await this.#store.hold(id);
    try {
      const files: AdapterFile[] = [];
      for (const file of manifest.files) {
        const found = await digestOf(held, id, file.name);
        if (found.bytes !== file.bytes || found.sha256 !== file.sha256) {
          throw brokenAdapter(id, `${file.name} differs from the digest in its manifest`);
        }
        files.push(file);
      }
      files.push({ name: ADAPTER_FILES.manifest, ...(await digestOf(held, id, ADAPTER_FILES.manifest)) });
      files.sort((a, b) => (a.name < b.name ? -1 : 1));
      return { id, manifest, files };
    } finally {
      held.release();
    }
  }
}

async function digestOf(held: HeldBundle, id: string, name: string): Promise<Digest> {
  try {
    return await digestFile(held.path(name));
  } catch (cause) {
    throw brokenAdapter(id, `${name} is missing or cannot be read`, cause);
  }
}

/** Order by time, then id, without the rules of a language: both are ASCII. */
function newestFirst(one: Adapter, other: Adapter): number {
  if (one.created_at !== other.created_at) return one.created_at < other.created_at ? 1 : -1;
  return one.id < other.id ? 1 : -1;
}

function summaryOf(manifest: AdapterManifest): Adapter {
  const { id, object, origin, owner, name, base_model, files, created_at } = manifest;
  const bytes = totalBytes(files);
  return { id, object, origin: shortOrigin(origin), owner, name, base_model: base_model.name, bytes, created_at };
}

function shortOrigin(origin: AdapterManifest['origin']): Adapter['origin'] {
  switch (origin.kind) {
    case 'trained':
      return { kind: origin.kind, job: origin.job };
    case 'published-checkpoint':
      return { kind: origin.kind, job: origin.job, step: origin.step };
    case 'imported':
      return { kind: origin.kind };
  }
}
