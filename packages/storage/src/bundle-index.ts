import {
  type BundleEntry,
  type EntryPosition,
  endOf,
  type Listing,
  newEntryName,
  parseEntryName,
} from './bundle-entry.js';
import type { BundleStore } from './bundle-store.js';

/** Names without content in folders: empty objects, or empty files. */
export interface EntryNames {
  /** It survives a crash once the promise resolves. */
  add(folder: string, name: string): Promise<void>;
  /** Harmless when the name does not exist. */
  remove(folder: string, name: string): Promise<void>;
  /** The first names beyond `after`, sorted, at most `limit`. */
  page(folder: string, options: { after: string | undefined; limit: number }): Promise<string[]>;
  /** All names of the folder, sorted. */
  list(folder: string): Promise<string[]>;
}

/** The folder of all entries. Each is in a folder of its owner, too, so that the newest of one are listed without those of others. */
const ALL = 'all';

/**
 * The index of a store by time, which is nothing but names. A bundle has its entry before it exists and until it exists no more, so the newest names are
 * those of the newest bundles, and of others whose publisher or deleter died.
 */
export class BundleIndex {
  readonly #names: EntryNames;

  constructor(names: EntryNames) {
    this.#names = names;
  }

  /** @returns the name of the entry */
  async add(id: string, listing: Listing): Promise<string> {
    const name = newEntryName(id, listing);
    // First where the repair looks, and last where it looks when it is removed.
    await this.#names.add(ALL, name);
    await this.#names.add(folderOf(listing.owner), name);
    return name;
  }

  async remove(name: string): Promise<void> {
    const entry = parseEntryName(name);
    if (entry === null) return;
    await this.#names.remove(folderOf(entry.owner), name);
    await this.#names.remove(ALL, name);
  }

  /** The names of the entries of a bundle, which takes a look at all names. */
  async namesOf(id: string): Promise<string[]> {
    return (await this.#names.list(ALL)).filter((name) => parseEntryName(name)?.id === id);
  }

  /** @see BundleStore.newest */
  async newest(options: { owner?: string | null; after?: EntryPosition; limit: number }): Promise<BundleEntry[]> {
    const { owner, after, limit } = options;
    const beyond = after === undefined ? undefined : endOf(after);
    return entriesOf(await this.#names.page(folderOf(owner), { after: beyond, limit }));
  }

  /** @see BundleStore.entries */
  async entries(owner?: string | null): Promise<BundleEntry[]> {
    return entriesOf(await this.#names.list(folderOf(owner)));
  }

  /** @see BundleStore.repairIndex */
  async repair(
    store: Pick<BundleStore, 'list' | 'has'>,
    listingOf: (id: string) => Promise<Listing | null>,
    olderThanMs: number,
  ): Promise<number> {
    const before = Date.now() - olderThanMs;
    // Bundles first: what is published meanwhile has an entry, too, and is not taken for one without.
    const lacking = new Set(await store.list());
    const names = new Map<string, string[]>();
    for (const name of await this.#names.list(ALL)) {
      const id = parseEntryName(name)?.id;
      if (id !== undefined) names.set(id, [...(names.get(id) ?? []), name]);
    }
    let repaired = 0;
    for (const [id, ofBundle] of names) {
      const exists = lacking.delete(id);
      // The only entry of an existing bundle is its own.
      if (exists && ofBundle.length === 1) continue;
      const listing = (await store.has(id)) ? await listingOf(id) : null;
      if (listing === null && exists) continue;
      const own = ofBundle.find((name) => listing !== null && isOf(name, listing));
      if (listing !== null && own === undefined) lacking.add(id);
      for (const name of ofBundle) {
        if (name === own || parseEntryName(name)!.createdMs > before) continue;
        await this.remove(name);
        repaired++;
      }
    }
    for (const id of lacking) {
      const listing = await listingOf(id);
      if (listing === null) continue;
      await this.add(id, listing);
      repaired++;
    }
    return repaired;
  }
}

/** @param owner - Undefined: of all. */
function folderOf(owner: string | null | undefined): string {
  return owner === undefined ? ALL : `owner.${owner ?? '-'}`;
}

function entriesOf(names: readonly string[]): BundleEntry[] {
  return names.map(parseEntryName).filter((entry) => entry !== null);
}

function isOf(name: string, { owner, created_at, bytes }: Listing): boolean {
  const entry = parseEntryName(name);
  return entry?.createdMs === Date.parse(created_at) && entry.owner === owner && entry.bytes === bytes;
}
