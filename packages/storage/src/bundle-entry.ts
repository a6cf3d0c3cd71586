import { randomBytes } from 'node:crypto';

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
export function repairedEntryName(id: string, listing: Listing): string {
  return entryName(id, listing, '0'.repeat(16));
}

function entryName(id: string, { owner, created_at, bytes }: Listing, digits: string): string {
  const createdMs = Date.parse(created_at);
  const isValid = createdMs >= 0 && createdMs <= LAST_MS && Number.isSafeInteger(bytes) && bytes >= 0;
  if (!isValid || (owner !== null && !OWNER.test(owner))) {
    throw new Error(`entryName: ${id} cannot be listed (${owner}, ${created_at}, ${bytes} bytes)`);
  }
  return `${sortKeyOf({ id, createdMs })}~${owner ?? NOBODY}~${bytes}~${digits}`;
}

/** Null for any other name. */
export function parseEntryName(name: string): BundleEntry | null {
  const [, time, id = '', owner = '', bytes] = NAME.exec(name) ?? [];
  if (time === undefined) return null;
  return { id, owner: owner === NOBODY ? null : owner, createdMs: LAST_MS - Number(time), bytes: Number(bytes) };
}

/** A text after all names of the entries at this place, and before all others that follow. */
export function endOf(position: EntryPosition): string {
  return `${sortKeyOf(position)}~~`;
}

/** Order of lists: the newest first, then by id. */
export function compareEntries(one: EntryPosition, other: EntryPosition): number {
  if (one.createdMs !== other.createdMs) return other.createdMs - one.createdMs;
  const [name, otherName] = [sortKeyOf(one), sortKeyOf(other)];
  return name === otherName ? 0 : `${name}~` < `${otherName}~` ? -1 : 1;
}

function sortKeyOf({ id, createdMs }: EntryPosition): string {
  return `${String(LAST_MS - createdMs).padStart(13, '0')}~${id}`;
}
