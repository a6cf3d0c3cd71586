import {
  adapterNotFound,
  annotationChange,
  brokenAdapter,
  detailsOf,
  listingOf,
  readManifest,
} from '@lorasmith/artifacts';
import {
  ADAPTER_FILES,
  type Adapter,
  type AdapterFile,
  AdapterId,
  type AdapterManifest,
  type AdapterQuery,
  type AdapterUsage,
  type Counted,
  type DetailsChange,
  detailsFilterOf,
  hasText,
  matchesDetails,
  type Owner,
  orderOf,
} from '@lorasmith/contracts';
import { type Caller, mayUse, visibleOwner } from '@lorasmith/service-kit';
import { type BundleLease, type BundleStore, type Digest, digestFile, ListedRecords } from '@lorasmith/storage';
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

/** Maximum checked adapters in memory. The oldest is dropped, and checked again on its next use. */
const MAX_CHECKED = 1_000;

const idSchema = Compile(AdapterId);

/** Lists, checks and deletes the published adapters. */
export class AdapterLibrary {
  readonly #store: BundleStore;
  readonly #summaries: ListedRecords<Adapter>;
  readonly #checked = new Map<string, Promise<VerifiedAdapter>>();

  constructor({ store, onBroken }: AdapterLibraryDependencies) {
    this.#store = store;
    const read = async (id: string) => summaryOf(await readManifest(store, id));
    const annotate = (adapter: Adapter, annotation: unknown) => ({ ...adapter, ...detailsOf(adapter, annotation) });
    this.#summaries = new ListedRecords({ store, what: 'adapter', read, annotate, onBroken });
  }

  /**
   * The adapters that the caller may use and that match, newest first unless sorted otherwise, without those whose manifest is broken.
   * @throws ProductError `invalid_request` if `after` is not the id of an adapter, and for a time that does not exist
   */
  async list(
    { after, limit, q, base_model, sort = 'created_at', order, ...query }: AdapterQuery & { limit: number },
    caller: Caller,
  ): Promise<Counted<Adapter>> {
    const filter = detailsFilterOf(query);
    const isFound = (adapter: Adapter) =>
      (base_model === undefined || adapter.base_model === base_model) &&
      matchesDetails(adapter, filter) &&
      hasText([adapter.name, adapter.id, adapter.base_model, ...adapter.tags], q);
    const isFiltered = q !== undefined || base_model !== undefined || Object.keys(filter).length > 0;
    return await this.#summaries.search({
      after,
      limit,
      owner: visibleOwner(caller),
      isFound: isFiltered ? isFound : undefined,
      sortBy: sort === 'created_at' ? undefined : (adapter) => adapter[sort],
      order: orderOf(sort, order),
    });
  }

  /** The item of the list, without a look at the files. @throws ProductError as {@link summary} */
  async record(id: string): Promise<Adapter> {
    return await this.#summaries.annotated(id);
  }

  /** Changes name, tags and note, all at once; the files stay as they are. @throws ProductError as {@link summary}; `storage_full` */
  async changeDetails(id: string, change: DetailsChange): Promise<Adapter> {
    return await this.#summaries.change(id, annotationChange(change));
  }

  /** The item of the list, of an adapter that nobody has changed. @throws ProductError `adapter_not_found`; `invalid_adapter` if it is damaged on disk */
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
    const { own, total, things } = await this.#summaries.stored(owner);
    return { own_adapters: things.own, own_bytes: own, total_adapters: things.total, total_bytes: total };
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
    return await this.#summaries.record(id).then(
      ({ owner }) => owner,
      () => null,
    );
  }

  #forget(id: string): void {
    this.#summaries.forget(id);
    this.#checked.delete(id);
  }

  async #readAndCheck(id: string): Promise<VerifiedAdapter> {
    const manifest = await readManifest(this.#store, id);
    // This copies the adapter to this host, from where downloads are then read.
    const lease = await this.#store.lease(id);
    try {
      const files: AdapterFile[] = [];
      for (const file of manifest.files) {
        const found = await digestOf(lease, id, file.name);
        if (found.bytes !== file.bytes || found.sha256 !== file.sha256) {
          throw brokenAdapter(id, `${file.name} differs from the digest in its manifest`);
        }
        files.push(file);
      }
      files.push({ name: ADAPTER_FILES.manifest, ...(await digestOf(lease, id, ADAPTER_FILES.manifest)) });
      files.sort((a, b) => (a.name < b.name ? -1 : 1));
      return { id, manifest, files };
    } finally {
      lease.release();
    }
  }
}

async function digestOf(lease: BundleLease, id: string, name: string): Promise<Digest> {
  try {
    return await digestFile(lease.path(name));
  } catch (cause) {
    throw brokenAdapter(id, `${name} is missing or cannot be read`, cause);
  }
}

function summaryOf(manifest: AdapterManifest): Adapter {
  const { id, object, origin, name, base_model } = manifest;
  const details = { name, tags: [], note: null };
  return { id, object, origin: shortOrigin(origin), ...details, base_model: base_model.name, ...listingOf(manifest) };
}

function shortOrigin(origin: AdapterManifest['origin']): Adapter['origin'] {
  switch (origin.kind) {
    case 'trained':
      return { kind: origin.kind, job: origin.job };
    case 'published-checkpoint':
      return { kind: origin.kind, job: origin.job, step: origin.step };
    case 'session':
      return { kind: origin.kind, model: origin.model, checkpoint: origin.checkpoint };
    case 'imported':
      return { kind: origin.kind };
  }
}
