import { createStore, type Store } from '../store.js';
import { readTab, writeTab } from '../tab-storage.js';

/** The key whose requests this tab sends. */
export interface Session {
  /** Null: requests are sent without a key. */
  key: string | null;
  /** Whether the service answered 401, so that nothing is shown before a key is entered. */
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
export function refuseSession(refused: string | null): void {
  const current = session.get();
  if (current.key === refused && !current.needsKey) session.set({ ...current, needsKey: true });
}
