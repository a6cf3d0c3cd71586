import { type Client, createClient } from '@lorasmith/client/core';
import { type ErrorCode, ProductError } from '@lorasmith/contracts';
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import { createStore, readTab, type Store, writeTab } from '../store.js';

/** The service that this page is from. */
export interface Service {
  client: Client;
  connection: Connection;
}

/** The address of the page without its fragment: the API's paths are below it. */
export const SERVICE_URL = new URL('.', window.location.href.split('#', 1)[0]).href;

export const connection = watchConnection(new URL('live', SERVICE_URL).href);

/**
 * A client with this key. When the service refuses it, the session is asked for another.
 * @param fetch - @defaultValue that of the connection
 */
export function clientWith(key: string | null, fetch: typeof globalThis.fetch = connection.fetch): Client {
  return createClient({
    baseUrl: SERVICE_URL,
    apiKey: key ?? undefined,
    async fetch(input, init) {
      const response = await fetch(input, init);
      if (response.status === 401) refuseSession(key);
      return response;
    },
  });
}

export const ServiceContext = createContext<Service | null>(null);

export function useService(): Service {
  const service = useContext(ServiceContext);
  if (service === null) throw new Error('This component is outside of the service');
  return service;
}

export function useClient(): Client {
  return useService().client;
}

/** The key whose requests this tab sends. */
export interface Session {
  /** Null: requests are sent without a key. */
  key: string | null;
  /** True if the service answered 401, so that nothing is shown before a key is entered. */
  needsKey: boolean;
}

/** The storage of the tab: the key is in no address, in no other tab, and gone with this one. */
const STORAGE_KEY = 'lorasmith-key';

export const session: Store<Session> = createStore({ key: readTab(STORAGE_KEY), needsKey: false });

export function enterKey(key: string): void {
  writeTab(STORAGE_KEY, key);
  session.set({ key, needsKey: false });
}

/** Forgets the key. The service may answer without one. */
export function leave(): void {
  writeTab(STORAGE_KEY, null);
  session.set({ key: null, needsKey: false });
}

/** Called when the service refuses the key of the session, or its absence. */
function refuseSession(refused: string | null): void {
  const current = session.get();
  if (current.key === refused && !current.needsKey) session.set({ ...current, needsKey: true });
}

export interface ConnectionState {
  isLost: boolean;
  /** The number of times that a lost connection came back. Data is read again when this changes. */
  recoveries: number;
}

export interface Connection {
  state: Store<ConnectionState>;
  /** `fetch` that also notices whether there is an answer. */
  fetch: typeof globalThis.fetch;
}

const PROBE_DELAYS_MS = [500, 1000, 2000, 4000];

/**
 * Watches if the service answers. While it does not, asks `probeUrl` until it does.
 * @param probeUrl - needs no key
 */
function watchConnection(probeUrl: string): Connection {
  const state = createStore<ConnectionState>({ isLost: false, recoveries: 0 });

  const answered = () => {
    const { isLost, recoveries } = state.get();
    if (isLost) state.set({ isLost: false, recoveries: recoveries + 1 });
  };
  const lost = () => {
    if (state.get().isLost) return;
    state.set({ ...state.get(), isLost: true });
    void probe();
  };
  const probe = async () => {
    for (let attempt = 0; state.get().isLost; attempt += 1) {
      await pause(PROBE_DELAYS_MS[Math.min(attempt, PROBE_DELAYS_MS.length - 1)]!);
      await globalThis.fetch(probeUrl, { cache: 'no-store' }).then(answered, () => {});
    }
  };

  return {
    state,
    async fetch(input, init) {
      try {
        const response = await globalThis.fetch(input, init);
        answered();
        return response;
      } catch (error) {
        if (init?.signal?.aborted !== true) lost();
        throw error;
      }
    },
  };
}

/** Ends early when the browser says that its network is back. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener('online', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    window.addEventListener('online', end);
  });
}

/** A handler of errors that turns one with this code into null, such as that of something that was deleted. */
export function nullIf(code: ErrorCode): (error: unknown) => null {
  return (error) => {
    if (error instanceof ProductError && error.code === code) return null;
    throw error;
  };
}
