import { type AliasStore, readManifest } from '@lorasmith/artifacts';
import {
  type Adapter,
  type AdapterId,
  AdapterPage,
  AdapterUsage,
  ErrorBody,
  type Owner,
  ProductError,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { type Caller, callerHeaders, EVERYTHING, mayUse, serviceSecretHeaders } from '@lorasmith/service-kit';
import { type BundleStore, readFolderToken } from '@lorasmith/storage';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import type { StoredBytes } from '../access/byte-quota.js';

/** The address of the registry, and the secret that it asks for. */
export interface RegistryAddress {
  url: string;
  /** The secret of api and registry; null: the registry asks for none. Read for each call: a registry that restarts writes a new one. */
  secret(): Promise<string | null>;
}

/**
 * The address of a registry.
 * @param serviceSecret - SERVICE_SECRET; null: the registry writes one into the data folder
 * @param dataDir - the data folder that both share
 */
export function registryAt(url: string, serviceSecret: string | null, dataDir: string): RegistryAddress {
  return { url, secret: async () => serviceSecret ?? (await readFolderToken(dataDir)) };
}

/** The api's own calls to the registry. Each throws ProductError `registry_unavailable`. */
export interface RegistryClient {
  /** Resolves if the registry answers. */
  check(): Promise<void>;
  /** The bytes of the owner's adapters, and of all adapters. */
  storedBytes(owner: Owner): Promise<StoredBytes>;
  /** Removes an adapter, unless another process has. */
  removeAdapter(id: AdapterId): Promise<void>;
  /** The adapters that the caller sees, newest first, at most `count`. */
  newestAdapters(caller: Caller, count: number): Promise<Adapter[]>;
}

type CallInit = { method?: 'DELETE'; headers?: Record<string, string> };

const CHECK_TIMEOUT_MS = 2_000;
const TIMEOUT_MS = 5_000;
/** The most that the registry returns at once. */
const PAGE_SIZE = 100;

export function createRegistryClient({ url, secret }: RegistryAddress): RegistryClient {
  const ask = async (path: string, init: CallInit, timeoutMs: number) => {
    try {
      const headers = { ...init.headers, ...serviceSecretHeaders(await secret()) };
      const answer = await fetch(new URL(path, url), { ...init, headers, signal: AbortSignal.timeout(timeoutMs) });
      return { status: answer.status, text: await answer.text() };
    } catch (cause) {
      throw registryUnavailable(cause);
    }
  };
  const call = async (path: string, init: CallInit, timeoutMs = TIMEOUT_MS): Promise<string> => {
    const { status, text } = await ask(path, init, timeoutMs);
    if (status !== 200) throw wrongStatus(path, status);
    return text;
  };
  return {
    async check() {
      await call('/live', {}, CHECK_TIMEOUT_MS);
    },
    async storedBytes(owner) {
      const text = await call('/usage', { headers: callerHeaders({ sees: 'all', owner }) });
      const usage = asAnswer(AdapterUsage, text);
      const things = { own: usage.own_adapters, total: usage.total_adapters };
      return { own: usage.own_bytes, total: usage.total_bytes, things };
    },
    async removeAdapter(id) {
      const path = `/adapters/${id}`;
      const init = { method: 'DELETE' as const, headers: callerHeaders(EVERYTHING) };
      const { status, text } = await ask(path, init, TIMEOUT_MS);
      const isAbsent = status === 404 && asAnswer(ErrorBody, text).error.code === 'adapter_not_found';
      if (status !== 204 && !isAbsent) throw wrongStatus(path, status);
    },
    async newestAdapters(caller, count) {
      const adapters: Adapter[] = [];
      while (adapters.length < count) {
        const limit = Math.min(PAGE_SIZE, count - adapters.length);
        const last = adapters.at(-1);
        const path = `/adapters?limit=${limit}${last === undefined ? '' : `&after=${last.id}`}`;
        const { status, text } = await ask(path, { headers: callerHeaders(caller) }, TIMEOUT_MS);
        if (status === 400 && last !== undefined && asAnswer(ErrorBody, text).error.param === 'after') {
          // It was deleted since; the list continues after the one before it.
          adapters.pop();
          continue;
        }
        if (status !== 200) throw wrongStatus(path, status);
        const page = asAnswer(AdapterPage, text);
        adapters.push(...page.data);
        if (page.data.length === 0 || !page.has_more) break;
      }
      return adapters;
    },
  };
}

export function registryUnavailable(cause: unknown): ProductError {
  return new ProductError('registry_unavailable', 'The registry cannot be reached. Try again in a moment.', { cause });
}

function wrongStatus(path: string, status: number): ProductError {
  return invalidAnswer(new Error(`the answer to ${path} has the status ${status}`));
}

function invalidAnswer(cause: unknown): ProductError {
  return new ProductError('registry_unavailable', "The registry's answer is not valid.", { cause });
}

function asAnswer<Schema extends TSchema>(schema: Schema, text: string): Static<Schema> {
  try {
    return Value.Parse(schema, JSON.parse(text));
  } catch (cause) {
    throw invalidAnswer(cause);
  }
}

/** The stores of what uses adapters: jobs that begin from them, and names that point to them. */
export interface AdapterUsers {
  jobs: { inputs: Pick<JobStore['inputs'], 'beginDeletion' | 'isBeingNamed'> };
  aliases: Pick<AliasStore, 'pointingTo'>;
}

export interface AdapterDeletionOptions extends AdapterUsers {
  adapters: Pick<BundleStore, 'has' | 'readJson'>;
}

/** Errors of adapters from which no job can begin. The registry reports them itself, or deletes the adapter although it is broken. */
const UNUSABLE = ['adapter_not_found', 'invalid_adapter', 'unsupported_version'];

/**
 * Prevents for the next minute that a job begins from an adapter, or a name is pointed at it, so that it can be deleted. Has no effect for an adapter
 * that does not exist, or that belongs to another key.
 * @throws ProductError `in_use` while unfinished jobs begin from it or names point to it; `redis_unavailable`, `storage_unavailable`
 */
export async function beginDeletionIfAllowed(
  { adapters, ...users }: AdapterDeletionOptions,
  id: string,
  caller: Caller,
): Promise<void> {
  try {
    await readManifest(adapters, id, { isAllowed: (owner) => mayUse(caller, owner) });
  } catch (error) {
    if (error instanceof ProductError && UNUSABLE.includes(error.code)) return;
    throw error;
  }
  await beginAdapterDeletion(users, id);
}

/**
 * Prevents for the next minute that a job begins from an adapter that its caller may delete, or that a name is pointed at it.
 * @throws ProductError `in_use` while unfinished jobs begin from it or names point to it; `redis_unavailable`
 */
export async function beginAdapterDeletion({ jobs, aliases }: AdapterUsers, id: AdapterId): Promise<void> {
  // Also before the mark: a deletion that is refused keeps no job from beginning.
  await refuseIfNamed(aliases, id);
  const users = await jobs.inputs.beginDeletion(id);
  if (users.length > 0) {
    const message = `${users.slice(0, 5).join(', ')} begin from ${id}. Cancel these jobs, or wait for them, first.`;
    throw new ProductError('in_use', message, { param: 'id' });
  }
  if (await jobs.inputs.isBeingNamed(id)) {
    throw new ProductError('in_use', `A name is being pointed at ${id} now. Try again in a moment.`, { param: 'id' });
  }
  await refuseIfNamed(aliases, id);
}

/** @throws ProductError `in_use` */
async function refuseIfNamed(aliases: AdapterUsers['aliases'], id: AdapterId): Promise<void> {
  const named = await aliases.pointingTo(id);
  if (named.length === 0) return;
  const names = named.slice(0, 5).map(({ name, owner }) => (owner === null ? name : `${name} of ${owner}`));
  const message = `Names point to ${id}: ${names.join(', ')}. Point them at another adapter, or delete them, first.`;
  throw new ProductError('in_use', message, { param: 'id' });
}
