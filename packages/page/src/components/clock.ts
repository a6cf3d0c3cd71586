import { createStore, useStore } from '../store.js';

const INTERVAL_MS = 10_000;
const clock = createStore(Date.now());
setInterval(() => clock.set(Date.now()), INTERVAL_MS);

/** The time, for texts that become old: it changes every ten seconds. */
export function useNow(): number {
  useStore(clock);
  return Date.now();
}
