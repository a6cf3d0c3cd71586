import { mapWithConcurrency, SharedRounds } from '@lorasmith/concurrency';
import { compareValues, ProductError, type SortedValue } from '@lorasmith/contracts';
import { type BundleEntry, compareEntries, type EntryPosition, type Listing } from './bundle-entry.js';
import type { BundleStore } from './bundle-store.js';

/** The part of a bundle's record that lists need. */
export interface ListedRecord extends Listing {
  id: string;
}

export interface ListedRecordsOptions<Listed extends ListedRecord> {
  store: Pick<BundleStore, 'has' | 'list' | 'newest' | 'entries' | 'annotations'>;
  /** One of them, for messages: `dataset`. */
  what: string;
  /** Reads the record of a bundle. Its owner, time and bytes are those with which it was published. @throws ProductError */
  read: (id: string) => Promise<Listed>;
  /** The record with what users say of the bundle: its annotation, null without one. */
  annotate: (record: Listed, annotation: unknown) => Listed;
  /** Called once for each bundle that lists omit because its record cannot be read. @defaultValue nothing is called */
  onBroken?: (id: string, error: unknown) => void;
}

export interface ListedPageOptions {
  limit: number;
  /** Id of the last one of the page before. @defaultValue the first page */
  after?: string | undefined;
  /** Only those of this owner, where null is nobody. @defaultValue those of all */
  owner?: string | null | undefined;
  /** Order by time. @defaultValue `desc`: newest first. The other order takes a look at the whole index. */
  order?: 'asc' | 'desc' | undefined;
}

export interface SearchOptions<Listed> extends ListedPageOptions {
  /** Only those whose entry matches: no other record is read. @defaultValue all */
  matches?: ((entry: BundleEntry) => boolean) | undefined;
  /** True for a record, with its annotation, that is listed. @defaultValue all are */
  isFound?: ((record: Listed) => boolean) | undefined;
  /** The value that records, with their annotations, are sorted by. Null comes last, and of equal ones the newest first. @defaultValue their time */
  sortBy?: ((record: Listed) => SortedValue) | undefined;
}

/** A record that a search has found, with its place in the order. */
interface FoundRecord<Listed> {
  record: Listed;
  position: EntryPosition;
  value: SortedValue;
}

/** Numbers of bundles, and their bytes. */
export interface StoredAmounts {
  own: number;
  total: number;
  things: { own: number; total: number };
}

/** Records that a search reads before it looks at them. */
const SEARCHED_AT_ONCE = 256;
/** Maximum records read concurrently. For a store on other hosts, each is a request. */
const RECORDS_AT_ONCE = 32;
/** Records in memory, of about 1 KB. The oldest is dropped, and read again when it is next needed. */
const MAX_RECORDS = 10_000;

function positionOf({ id, created_at }: ListedRecord): EntryPosition {
  return { id, createdMs: Date.parse(created_at) };
}

/** Lists of bundles with their records, by the index of the store. */
export class ListedRecords<Listed extends ListedRecord> {
  readonly #options: ListedRecordsOptions<Listed>;
  readonly #records = new Map<string, Listed>();
  readonly #reported = new Set<string>();
  /** Requests at the same time share one look at the index. */
  readonly #entries: SharedRounds<BundleEntry[]>;

  constructor(options: ListedRecordsOptions<Listed>) {
    this.#options = options;
    this.#entries = new SharedRounds(() => options.store.entries());
  }

  /** The record as it is now, with its annotation. @throws errors of reading it */
  async annotated(id: string): Promise<Listed> {
    const record = await this.current(id);
    return this.#options.annotate(record, await this.#options.store.annotations.get(record));
  }

  /**
   * Changes the annotation of a bundle.
   * @returns its record
   * @throws errors of reading it and of {@link BundleStore.annotations}
   */
  async change(id: string, change: (annotation: unknown) => object): Promise<Listed> {
    const { annotate, store } = this.#options;
    const record = await this.current(id);
    return annotate(record, await store.annotations.change(record, change));
  }

  /** The record as it was last read, whether the bundle still exists or not, without its annotation. @throws errors of reading it */
  async record(id: string): Promise<Listed> {
    return this.#records.get(id) ?? (await this.current(id));
  }

  /** The record as it is now. @throws errors of reading it */
  async current(id: string): Promise<Listed> {
    const record = await this.#options.read(id);
    this.#records.set(id, record);
    const [oldest] = this.#records.keys();
    if (this.#records.size > MAX_RECORDS) this.#records.delete(oldest!);
    return record;
  }

  forget(id: string): void {
    this.#records.delete(id);
  }

  /**
   * A page without those whose record is broken. What is published or deleted between two pages is in neither twice.
   * @throws ProductError `invalid_request` if there is no bundle `after`; `storage_unavailable`
   */
  async page(options: ListedPageOptions): Promise<{ data: Listed[]; has_more: boolean; next: string | null }> {
    const { after, limit, owner } = options;
    const start = after === undefined ? undefined : positionOf(await this.#visible(after, owner));
    const found = new Map<string, Listed>();
    const annotated = await this.#annotator();
    for await (const entries of this.#batches(options, start)) {
      const records = await mapWithConcurrency(entries, RECORDS_AT_ONCE, (entry) => this.#recordOf(entry));
      for (const record of records) if (record !== null) found.set(record.id, record);
      if (found.size > limit) break;
    }
    const page = [...found.values()].slice(0, limit);
    const data = await mapWithConcurrency(page, RECORDS_AT_ONCE, annotated);
    const has_more = found.size > limit;
    return { data, has_more, next: has_more ? data.at(-1)!.id : null };
  }

  /** The number of bundles of the owner, or of all: of the entries in the index. */
  async count(owner?: string | null): Promise<number> {
    return new Set((await this.#options.store.entries(owner)).map(({ id }) => id)).size;
  }

  /**
   * A page of the records that are found, newest first unless sorted otherwise, and the number of all of them. With a condition, or sorted by a value, it
   * looks at every record, most of which are in memory; otherwise at the page alone, and the number is that of the entries. A page starts behind the
   * record `after` as it is now, whether it is still found or not.
   * @throws as {@link page}
   */
  async search(
    options: SearchOptions<Listed>,
  ): Promise<{ data: Listed[]; has_more: boolean; next: string | null; total: number }> {
    const { after, limit, owner, order = 'desc', matches = () => true, isFound = () => true } = options;
    if (options.matches === undefined && options.isFound === undefined && options.sortBy === undefined) {
      const [page, total] = await Promise.all([this.page(options), this.count(owner)]);
      return { ...page, total };
    }
    const { store } = this.#options;
    const last = after === undefined ? undefined : await this.#visible(after, owner);
    const [all, ids, annotated] = await Promise.all([store.entries(owner), store.list(), this.#annotator()]);
    const entries = all.filter(matches);
    const existing = new Set(ids);
    const foundOf = (record: Listed): FoundRecord<Listed> => {
      const position = positionOf(record);
      return { record, position, value: options.sortBy === undefined ? position.createdMs : options.sortBy(record) };
    };
    const compare = (one: FoundRecord<Listed>, other: FoundRecord<Listed>) =>
      compareValues(one.value, other.value, order) || compareEntries(one.position, other.position);
    const start = last && foundOf(await annotated(last));
    const page: FoundRecord<Listed>[] = [];
    const seen = new Set<string>();
    let behind = 0;
    for (let from = 0; from < entries.length; from += SEARCHED_AT_ONCE) {
      const batch = entries.slice(from, from + SEARCHED_AT_ONCE);
      const records = await mapWithConcurrency(batch, RECORDS_AT_ONCE, async (entry) => {
        const record = await this.#recordOf(entry, async (id) => existing.has(id));
        return record && (await annotated(record));
      });
      for (const record of records) {
        if (record === null || seen.has(record.id) || !isFound(record)) continue;
        seen.add(record.id);
        const found = foundOf(record);
        if (start !== undefined && compare(found, start) <= 0) continue;
        behind++;
        page.push(found);
      }
      page.sort(compare).splice(limit);
    }
    const data = page.map(({ record }) => record);
    const has_more = behind > data.length;
    return { data, has_more, next: has_more ? data.at(-1)!.id : null, total: seen.size };
  }

  /** Adds annotations to many records. */
  async #annotator(): Promise<(record: Listed) => Promise<Listed>> {
    const { annotate, store } = this.#options;
    const annotationOf = await store.annotations.lookup();
    return async (record) => annotate(record, await annotationOf(record));
  }

  /** Number and bytes of the bundles of the owner, and of all. Reads no record. */
  async stored(owner: string | null): Promise<StoredAmounts> {
    const amounts: StoredAmounts = { own: 0, total: 0, things: { own: 0, total: 0 } };
    const counted = new Set<string>();
    for (const entry of await this.#entries.run()) {
      if (counted.has(entry.id)) continue;
      counted.add(entry.id);
      amounts.total += entry.bytes;
      amounts.things.total++;
      if (entry.owner !== owner) continue;
      amounts.own += entry.bytes;
      amounts.things.own++;
    }
    return amounts;
  }

  /** Entries beyond `start`, as many at a time as a page may need. */
  async *#batches(
    { owner, limit, order = 'desc' }: ListedPageOptions,
    start: EntryPosition | undefined,
  ): AsyncGenerator<BundleEntry[]> {
    const size = limit + 1;
    const { store } = this.#options;
    const of = owner === undefined ? {} : { owner };
    if (order === 'desc') {
      let after = start;
      for (let isLast = false; !isLast; ) {
        const entries = await store.newest({ ...of, ...(after && { after }), limit: size });
        yield entries;
        isLast = entries.length < size;
        after = entries.at(-1);
      }
      return;
    }
    const isBeyond = (entry: BundleEntry) => start === undefined || compareEntries(entry, start) < 0;
    const all = (await store.entries(owner)).filter(isBeyond).reverse();
    for (let from = 0; from < all.length; from += size) yield all.slice(from, from + size);
  }

  /** The last record of a page before. */
  async #visible(id: string, owner: string | null | undefined): Promise<Listed> {
    // Not the one in memory: it may have been deleted, and published again at another time.
    const record = await this.#orNull(id, this.current(id));
    if (record !== null && (owner === undefined || record.owner === owner)) return record;
    const message = `There is no ${this.#options.what} ${JSON.stringify(id)}. Start again at the first page.`;
    throw new ProductError('invalid_request', message, { param: 'after' });
  }

  /** Null if the entry is not that of an existing bundle, or its record is broken. */
  async #recordOf(
    { id, createdMs }: BundleEntry,
    exists: (id: string) => Promise<boolean> = (one) => this.#options.store.has(one),
  ): Promise<Listed | null> {
    const isOfEntry = (record: Listed) => Date.parse(record.created_at) === createdMs;
    const known = this.#records.get(id);
    if (known !== undefined) {
      if (isOfEntry(known) && (await exists(id))) return known;
      // It was deleted, and may have been published again.
      this.forget(id);
    }
    const record = await this.#orNull(id, this.record(id));
    return record !== null && isOfEntry(record) ? record : null;
  }

  /** Null if it does not exist or is broken. */
  async #orNull(id: string, record: Promise<Listed>): Promise<Listed | null> {
    try {
      return await record;
    } catch (error) {
      const known = error instanceof ProductError ? error : null;
      if (known?.code === 'storage_unavailable') throw error;
      if (known?.status !== 404 && !this.#reported.has(id)) {
        this.#reported.add(id);
        this.#options.onBroken?.(id, error);
      }
      return null;
    }
  }
}
