import { createStore, type Store } from '../store.js';

export interface ConnectionState {
  isLost: boolean;
  /** How often a lost connection came back. Data is read again when this changes. */
  recoveries: number;
}

export interface Connection {
  state: Store<ConnectionState>;
  /** `fetch` that also notices whether there is an answer. */
  fetch: typeof globalThis.fetch;
}

const PROBE_DELAYS_MS = [500, 1000, 2000, 4000];

/**
 * Watches whether the service answers. While it does not, asks `probeUrl` until it does.
 * @param probeUrl - needs no key
 */
export function watchConnection(probeUrl: string): Connection {
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
