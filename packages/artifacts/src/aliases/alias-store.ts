import {
  AdapterId,
  type Alias,
  AliasMove,
  AliasName,
  checkNewRecord,
  checkRecordVersion,
  MAX_ALIAS_MOVES,
  MAX_ALIASES_OF_OWNER,
  Nullable,
  OutsideTarget,
  Owner,
  ProductError,
  RECORD_VERSION,
  RecordVersion,
} from '@lorasmith/contracts';
import type { Annotations } from '@lorasmith/storage';
import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';

/** The folder of names, and the prefix of their objects in S3. */
export const ALIASES_KIND = 'aliases';

/** The text of a name. That of a removed name stays for a day, so that each move has a number of its own. */
const AliasRecord = Type.Object({
  version: RecordVersion,
  name: AliasName,
  owner: Owner,
  removed_at: Nullable(Type.String()),
  /** The places that follow the name. */
  deliver: Type.Array(OutsideTarget),
  /** The newest first. */
  moves: Type.Array(AliasMove, { minItems: 1 }),
});
type AliasRecord = Static<typeof AliasRecord>;

const recordSchema = Compile(AliasRecord);
const nameSchema = Compile(AliasName);
const adapterIdSchema = Compile(AdapterId);

/** A name, and whose it is: each owner has names of its own. */
export interface OwnedName {
  owner: Owner;
  name: string;
}

/** A move before the store adds its version and its time. */
export interface NewMove
  extends Pick<AliasMove, 'adapter' | 'base_model' | 'moved_by' | 'reason' | 'rolled_back_to' | 'guard'> {
  /** The version that the name must have; 0: it must not exist; undefined: any. */
  ifVersion: number | undefined;
}

/** The part of annotations that names need. */
export type AliasTexts = Pick<Annotations, 'get' | 'all' | 'change' | 'sweep'>;

/**
 * Names of adapters. A name is one text that each move replaces, so a reader finds the name before a move or after it, and of two moves at the same time
 * the later one knows the earlier. Every method may throw ProductError `storage_unavailable`, and `internal_error` or `unsupported_version` for a record that
 * cannot be read.
 */
export class AliasStore {
  readonly #texts: AliasTexts;

  constructor(texts: AliasTexts) {
    this.#texts = texts;
  }

  /** Null if the owner has no such name, as for a text that is no name. */
  async get({ owner, name }: OwnedName): Promise<Alias | null> {
    if (!nameSchema.Check(name)) return null;
    return aliasOf(recordOf(await this.#texts.get(textOf({ owner, name })), name));
  }

  /** The adapter that a text means: its id, or a name of this owner. Null if it is neither. */
  async adapterOf(text: string, owner: Owner): Promise<AdapterId | null> {
    if (adapterIdSchema.Check(text)) return text;
    return (await this.get({ owner, name: text }))?.adapter ?? null;
  }

  /** The names of an owner, sorted. @defaultValue of all owners */
  async list(owner?: Owner): Promise<Alias[]> {
    const found = await this.#texts.all(owner === undefined ? '' : idPrefix(owner));
    const aliases = found.flatMap(({ id, value }) => aliasOf(recordOf(value, id)) ?? []);
    return aliases.sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** The names that point to an adapter now, whosever they are. */
  async pointingTo(adapter: AdapterId): Promise<Alias[]> {
    return (await this.list()).filter((alias) => alias.adapter === adapter);
  }

  /**
   * Points a name at an adapter. A name that points to it already is left as it is.
   * @throws ProductError `conflict` if its version is not `ifVersion`; `quota_exceeded` for one more name than an owner may have; `storage_full`;
   * `service_unavailable` if others move it all the time
   */
  async move(of: OwnedName, { ifVersion, ...move }: NewMove): Promise<Alias> {
    if ((await this.get(of)) === null) await this.#checkRoom(of.owner);
    const record = await this.#texts.change(textOf(of), (value): AliasRecord => {
      const before = recordOf(value, of.name);
      const present = aliasOf(before);
      checkAliasVersion(of.name, present, ifVersion);
      if (before !== null && present?.adapter === move.adapter) return before;
      const version = (before?.moves[0]?.version ?? 0) + 1;
      const moves = [{ version, moved_at: new Date().toISOString(), ...move }, ...(present?.history ?? [])];
      const after: AliasRecord = {
        ...of,
        version: RECORD_VERSION,
        removed_at: null,
        deliver: present?.deliver ?? [],
        moves: moves.slice(0, MAX_ALIAS_MOVES),
      };
      checkNewRecord(recordSchema, after, `The name ${of.name}`);
      return after;
    });
    return aliasOf(record)!;
  }

  /** Sets the places that follow a name. @throws ProductError `alias_not_found`, `storage_full` */
  async setDeliveries(of: OwnedName, deliver: readonly OutsideTarget[]): Promise<Alias> {
    if ((await this.get(of)) === null) throw aliasNotFound(of.name);
    const record = await this.#texts.change(textOf(of), (value): AliasRecord => {
      const before = recordOf(value, of.name);
      if (before === null || before.removed_at !== null) throw aliasNotFound(of.name);
      const after: AliasRecord = { ...before, deliver: [...deliver] };
      checkNewRecord(recordSchema, after, `The name ${of.name}`);
      return after;
    });
    return aliasOf(record)!;
  }

  /** Removes a name and its history. @throws ProductError `alias_not_found`, `storage_full` */
  async remove(of: OwnedName): Promise<void> {
    if ((await this.get(of)) === null) throw aliasNotFound(of.name);
    await this.#texts.change(textOf(of), (value): AliasRecord => {
      const before = recordOf(value, of.name);
      if (before === null || before.removed_at !== null) throw aliasNotFound(of.name);
      return { ...before, removed_at: new Date().toISOString(), deliver: [], moves: before.moves.slice(0, 1) };
    });
  }

  /** Forgets names that were removed longer ago than `olderThanMs`. @returns the number of removed texts */
  async sweep(olderThanMs: number): Promise<number> {
    const before = Date.now() - olderThanMs;
    return await this.#texts.sweep(async (id) => {
      const record = recordOf(await this.#texts.get({ id, created_at: NO_TIME }), id);
      return record?.removed_at == null || Date.parse(record.removed_at) > before;
    });
  }

  /** Several moves at the same time may exceed the limit by as many names. */
  async #checkRoom(owner: Owner): Promise<void> {
    if ((await this.list(owner)).length < MAX_ALIASES_OF_OWNER) return;
    const message = `There are ${MAX_ALIASES_OF_OWNER} names already, which is the most that a key may have. Delete one first.`;
    throw new ProductError('quota_exceeded', message);
  }
}

/** The error for a name that does not exist, or that is another owner's. */
export function aliasNotFound(name: string): ProductError {
  return new ProductError('alias_not_found', `There is no name ${JSON.stringify(name.slice(0, 64))} of an adapter.`);
}

/** A name is published at no time: its text is found by its id alone. */
const NO_TIME = new Date(0).toISOString();

function textOf({ owner, name }: OwnedName) {
  return { id: idPrefix(owner) + name, created_at: NO_TIME };
}

/** No id of a key contains a dot. */
function idPrefix(owner: Owner): string {
  return `${owner ?? 'none'}.`;
}

/** @param what - Names the record in messages. */
function recordOf(value: unknown, what: string): AliasRecord | null {
  if (value === null) return null;
  checkRecordVersion(value, `The name ${what}`);
  if (recordSchema.Check(value)) return value;
  throw new ProductError('internal_error', `The record of the name ${what} is damaged.`);
}

/** Null for a record that is missing, or of a name that was removed. */
function aliasOf(record: AliasRecord | null): Alias | null {
  if (record === null || record.removed_at !== null) return null;
  const { name, owner, deliver, moves } = record;
  const { version, adapter, base_model, moved_at, moved_by } = moves[0]!;
  return { name, object: 'alias', owner, adapter, base_model, version, moved_at, moved_by, deliver, history: moves };
}

/** @throws ProductError `conflict` if a name has another version; 0 is that of a name that does not exist */
export function checkAliasVersion(name: string, present: Alias | null, ifVersion: number | undefined): void {
  const version = present?.version ?? 0;
  if (ifVersion === undefined || ifVersion === version) return;
  const state = present === null ? 'does not exist' : `has version ${version}, and points to ${present.adapter}`;
  const message = `${name} was not moved: it ${state}, and if_version is ${ifVersion}. Read it again before you move it.`;
  throw new ProductError('conflict', message, { param: 'if_version' });
}
