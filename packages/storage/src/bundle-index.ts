import {
  type BundleEntry,
  type EntryPosition,
  endOf,
  type Listing,
  newEntryName,
  parseEntryName,
  repairedEntryName,
} from './bundle-entry.js';
import type { BundleStore } from './bundle-store.js';

/** Names without content in folders: empty objects, or empty files. */
export interface EntryNames {
  /** It survives a crash once the promise resolves. */
  add(folder: string, name: string): Promise<void>;
  has(folder: string, name: string): Promise<boolean>;
  /** Harmless when the name does not exist. */
  remove(folder: string, name: string): Promise<void>;
  /** The first names beyond `after`, sorted, at most `limit`. */
  page(folder: string, options: { after: string | undefined; limit: number }): Promise<string[]>;
  /** All names of the folder, sorted. */
  list(folder: string): Promise<string[]>;
  /** All names of all folders, by folder. */
  listAll(): Promise<Map<string, string[]>>;
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
    await this.#put(name, listing);
    return name;
  }

  /** Adds the name where a deleter looks for the names of a bundle first; `remove` removes it there last. */
  async #put(name: string, { owner }: Listing): Promise<void> {
    await this.#names.add(ALL, name);
    await this.#names.add(folderOf(owner), name);
  }

  async remove(name: string): Promise<void> {
    const entry = parseEntryName(name);
    if (entry === null) return;
    await this.#names.remove(folderOf(entry.owner), name);
    await this.#names.remove(ALL, name);
  }

  /** True if there is an entry of this name. */
  async has(name: string): Promise<boolean> {
    return await this.#names.has(ALL, name);
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
    const bundles = new Set(await store.list());
    const { names, isComplete } = await this.#namesByBundle();
    let repaired = 0;
    for (const id of new Set([...bundles, ...names.keys()])) {
      const ofBundle = names.get(id) ?? [];
      // The only entry of an existing bundle is its own.
      if (bundles.has(id) && ofBundle.length === 1 && ofBundle.every(isComplete)) continue;
      const listing = (await store.has(id)) ? await listingOf(id) : null;
      if (listing === null && bundles.has(id)) continue;
      const own = listing && ownName(id, listing, ofBundle, isComplete);
      // It is there before the others are removed, so that the bundle is always listed.
      if (own !== null && !isComplete(own)) {
        await this.#put(own, listing!);
        repaired++;
      }
      for (const name of ofBundle) {
        if (name === own || parseEntryName(name)!.createdMs > before) continue;
        await this.remove(name);
        repaired++;
      }
    }
    return repaired;
  }

  /** The names of all entries by the id of their bundle, and whether a name is in both of its folders: a process may have died between them. */
  async #namesByBundle(): Promise<{ names: Map<string, string[]>; isComplete: (name: string) => boolean }> {
    const folders = await this.#names.listAll();
    const names = new Map<string, string[]>();
    const timesSeen = new Map<string, number>();
    for (const [folder, inFolder] of folders) {
      for (const name of inFolder) {
        const entry = parseEntryName(name);
        if (entry === null || (folder !== ALL && folder !== folderOf(entry.owner))) continue;
        const seen = timesSeen.get(name) ?? 0;
        timesSeen.set(name, seen + 1);
        if (seen === 0) names.set(entry.id, [...(names.get(entry.id) ?? []), name]);
      }
    }
    return { names, isComplete: (name) => timesSeen.get(name) === 2 };
  }
}

/** The name that the entry of a bundle has, or is to have: one that is there, if there is one. */
function ownName(
  id: string,
  listing: Listing,
  ofBundle: readonly string[],
  isComplete: (name: string) => boolean,
): string {
  const right = ofBundle.filter((name) => isOf(name, listing));
  return right.find(isComplete) ?? right[0] ?? repairedEntryName(id, listing);
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
