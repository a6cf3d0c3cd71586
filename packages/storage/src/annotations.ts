import { randomBytes } from 'node:crypto';
import { mapWithConcurrency } from '@lorasmith/concurrency';
import { ProductError } from '@lorasmith/contracts';

/** Small texts under names, each written once and complete: files, or objects. */
export interface NamedTexts {
  /** @returns false where the name is taken: nothing was written */
  create(name: string, text: string): Promise<boolean>;
  /** Null if there is none. */
  read(name: string): Promise<string | null>;
  /** Harmless when there is none. */
  remove(name: string): Promise<void>;
  /** The names that start with `prefix`, sorted. */
  list(prefix: string): Promise<string[]>;
}

/** A bundle, and when it was created: one that is published again under its id does not get the annotation of the one before. */
export interface Annotated {
  id: string;
  /** ISO 8601; milliseconds count. */
  created_at: string;
}

/**
 * Values that users give to bundles, beside their files, which never change: one JSON value each.
 *
 * Every change is a new text under the next number, created only if no other process was faster; the highest number counts. So a reader finds either the old
 * or the new value, in a folder and in S3, and a change that was overtaken is made again upon what is there. A text names the last changes that it has, so that
 * a change is not made again if others went on from it.
 */
export interface Annotations {
  /** The value; null if there is none. */
  get(of: Annotated): Promise<unknown>;
  /** A look at all names, to read many values with few requests. */
  lookup(): Promise<(of: Annotated) => Promise<unknown>>;
  /** All values whose ids start with this, by id. One look at the names, and a request for each value that is not in memory. */
  all(idPrefix: string): Promise<{ id: string; value: unknown }[]>;
  /**
   * Changes the value. `change` may be called again with a newer one. If it throws, nothing is changed.
   * @returns the new value
   * @throws ProductError `storage_full`, `storage_unavailable`; `service_unavailable` if others change it all the time; errors of `change`
   */
  change<Value>(of: Annotated, change: (value: unknown) => Value): Promise<Value>;
  /** Removes all of a bundle that is deleted. */
  remove(id: string): Promise<void>;
  /** Removes those of bundles that do not exist. @returns how many texts */
  sweep(exists: (id: string) => Promise<boolean>): Promise<number>;
}

const NAME = /^[A-Za-z0-9._-]{1,128}~\d{13}~\d{10}$/;
/** Attempts at a change that others overtake. */
const MAX_TRIES = 20;
/** Values in memory, of at most some KB. A text never changes. */
const MAX_KEPT = 2_000;
/** Changes that a text names: more than others make between two requests to the store. */
const MAX_CHANGES = 32;
/** Texts that are read at the same time. For a store on other hosts, each is a request. */
const TEXTS_AT_ONCE = 32;

/** A text: the value, and the last changes that it has, the newest first. */
interface Annotation {
  value: unknown;
  changes: readonly string[];
}

const NO_ANNOTATION: Annotation = { value: null, changes: [] };

export function openAnnotations(texts: NamedTexts): Annotations {
  const kept = new Map<string, Annotation>();
  /** The names of texts, without what another program left there. */
  const namesOf = async (prefix: string) => (await texts.list(prefix)).filter((name) => NAME.test(name));

  const keep = (name: string, annotation: Annotation) => {
    kept.set(name, annotation);
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value!);
  };

  /** Null for a text that another process has replaced. */
  const read = async (name: string): Promise<Annotation | null> => {
    const known = kept.get(name);
    if (known !== undefined) return known;
    const text = await texts.read(name);
    if (text === null) return null;
    const annotation = parsed(text);
    keep(name, annotation);
    return annotation;
  };

  /** The newest text of a bundle. It may be replaced between the look at the names and the reading. */
  const newest = async (of: Annotated): Promise<Annotation & { names: string[] }> => {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const names = await namesOf(stemOf(of));
      const last = names.at(-1);
      const found = last === undefined ? NO_ANNOTATION : await read(last);
      if (found !== null) return { ...found, names };
    }
    throw overtaken(of);
  };

  const get = async (of: Annotated) => (await newest(of)).value;

  /** The newest names, by the stems of those that start with `prefix`. */
  const newestNames = async (prefix: string) => {
    const newestOf = new Map<string, string>();
    // Sorted, so the last one of each stem stays.
    for (const name of await namesOf(prefix)) newestOf.set(name.slice(0, name.lastIndexOf('~') + 1), name);
    return newestOf;
  };

  return {
    get,

    async lookup() {
      const newestOf = await newestNames('');
      return async (of) => {
        const name = newestOf.get(stemOf(of));
        if (name === undefined) return null;
        return (await read(name))?.value ?? (await get(of));
      };
    },

    async all(idPrefix) {
      const found = [...(await newestNames(idPrefix))];
      return await mapWithConcurrency(found, TEXTS_AT_ONCE, async ([stem, name]) => {
        const [id = '', createdMs] = stem.split('~');
        const annotation = await read(name);
        if (annotation !== null) return { id, value: annotation.value };
        return { id, value: await get({ id, created_at: new Date(Number(createdMs)).toISOString() }) };
      });
    },

    async change(of, change) {
      const own = randomBytes(9).toString('base64url');
      for (let tries = 0; tries < MAX_TRIES; tries++) {
        const before = await newest(of);
        const number = Number(before.names.at(-1)?.slice(-10) ?? 0) + 1;
        const name = `${stemOf(of)}${String(number).padStart(10, '0')}`;
        const value = change(before.value);
        const annotation: Annotation = { value, changes: [own, ...before.changes].slice(0, MAX_CHANGES) };
        if (!(await texts.create(name, JSON.stringify(annotation)))) continue;
        keep(name, annotation);
        const { changes, names } = await newest(of);
        if (!changes.includes(own)) {
          // Others had gone on to the next number, and had removed this one before it was created here.
          kept.delete(name);
          await texts.remove(name);
          continue;
        }
        for (const old of names.slice(0, -1)) await texts.remove(old);
        return value;
      }
      throw overtaken(of);
    },

    async remove(id) {
      for (const name of await texts.list(`${id}~`)) await texts.remove(name);
    },

    async sweep(exists) {
      let removed = 0;
      for (const name of await namesOf('')) {
        if (await exists(name.slice(0, name.indexOf('~')))) continue;
        await texts.remove(name);
        removed++;
      }
      return removed;
    },
  };
}

/** A text as it was written; no annotation for one that is damaged, which says nothing of its bundle. */
function parsed(text: string): Annotation {
  try {
    const { value, changes }: Partial<Annotation> = JSON.parse(text);
    return value !== undefined && Array.isArray(changes) ? { value, changes } : NO_ANNOTATION;
  } catch {
    return NO_ANNOTATION;
  }
}

/** The start of the names of a bundle's texts. */
function stemOf({ id, created_at }: Annotated): string {
  return `${id}~${String(Date.parse(created_at)).padStart(13, '0')}~`;
}

function overtaken({ id }: Annotated): ProductError {
  return new ProductError('service_unavailable', `${id} is being changed by others all the time. Try again.`);
}
