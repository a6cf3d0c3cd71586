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
