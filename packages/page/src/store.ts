import { useEffect, useState } from 'preact/hooks';

/** A value that components can watch. */
export interface Store<Value> {
  get(): Value;
  set(value: Value): void;
  /** @returns a function that ends the subscription */
  subscribe(listener: () => void): () => void;
}

export function createStore<Value>(initial: Value): Store<Value> {
  let current = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => current,
    set(value) {
      if (Object.is(value, current)) return;
      current = value;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** The value of a store; the component is rendered again when it changes. */
export function useStore<Value>(store: Store<Value>): Value {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    const update = () => setValue(() => store.get());
    update();
    return store.subscribe(update);
  }, [store]);
  return value;
}

// The storage of the tab, which survives a reload and ends with the tab. A browser can forbid it; values then live until the next reload.

export function readTab(name: string): string | null {
  return tryStorage((storage) => storage.getItem(name)) ?? null;
}

/** @param value - null: removes it */
export function writeTab(name: string, value: string | null): void {
  tryStorage((storage) => (value === null ? storage.removeItem(name) : storage.setItem(name, value)));
}

function tryStorage<Value>(use: (storage: Storage) => Value): Value | undefined {
  try {
    return use(window.sessionStorage);
  } catch {
    return undefined;
  }
}
