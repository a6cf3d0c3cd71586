import { randomBytes } from 'node:crypto';
import type { BundleStore } from './bundle-store.js';

/** The facts about a bundle that lists and quotas need without reading it. */
export interface Listing {
  /** Letters, digits and `_`, at most 64; null: nobody. */
  owner: string | null;
  /** ISO 8601; milliseconds count. */
  created_at: string;
  bytes: number;
}

/** An entry of the index of a store. */
export interface BundleEntry {
  id: string;
  owner: string | null;
  createdMs: number;
  bytes: number;
}

/** The place of an entry in lists. */
export type EntryPosition = Pick<BundleEntry, 'id' | 'createdMs'>;

const NOBODY = '-';
const OWNER = /^[A-Za-z0-9_]{1,64}$/;
const NAME = /^(\d{13})~([A-Za-z0-9._-]{1,128})~(-|[A-Za-z0-9_]{1,64})~(\d{1,16})~[0-9a-f]{16}$/;
/** Times are counted down from this one, in the year 2286, so that the newest name is the first. */
const LAST_MS = 9_999_999_999_999;

/**
 * A new name of an entry: time, id, owner, bytes and random digits. The digits make it the name of one publisher alone, so that of several that
 * publish the same bundle each removes its own.
 * @throws when the listing is not valid
 */
export function newEntryName(id: string, listing: Listing): string {
  return entryName(id, listing, randomBytes(8).toString('hex'));
}

/** The name of an entry that a repair adds: whoever repairs, and however often, the same. @throws when the listing is not valid */
function repairedEntryName(id: string, listing: Listing): string {
  return entryName(id, listing, '0'.repeat(16));
}

function entryName(id: string, { owner, created_at, bytes }: Listing, digits: string): string {
  const createdMs = Date.parse(created_at);
  const isValid = createdMs >= 0 && createdMs <= LAST_MS && Number.isSafeInteger(bytes) && bytes >= 0;
  if (!isValid || (owner !== null && !OWNER.test(owner))) {
    throw new Error(`entryName: ${id} cannot be listed (${owner}, ${created_at}, ${bytes} bytes)`);
  }
  return `${placeOf({ id, createdMs })}~${owner ?? NOBODY}~${bytes}~${digits}`;
}

/** Null for any other name. */
function parseEntryName(name: string): BundleEntry | null {
  const [, time, id = '', owner = '', bytes] = NAME.exec(name) ?? [];
  if (time === undefined) return null;
  return { id, owner: owner === NOBODY ? null : owner, createdMs: LAST_MS - Number(time), bytes: Number(bytes) };
}

/** A text after all names of the entries at this place, and before all others that follow. */
function endOf(position: EntryPosition): string {
  return `${placeOf(position)}~~`;
}

/** Order of lists: the newest first, then by id. */
export function compareEntries(one: EntryPosition, other: EntryPosition): number {
  if (one.createdMs !== other.createdMs) return other.createdMs - one.createdMs;
  const [name, otherName] = [placeOf(one), placeOf(other)];
  return name === otherName ? 0 : `${name}~` < `${otherName}~` ? -1 : 1;
}

function placeOf({ id, createdMs }: EntryPosition): string {
  return `${String(LAST_MS - createdMs).padStart(13, '0')}~${id}`;
}

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

  /** Whether there is an entry of this name. */
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
