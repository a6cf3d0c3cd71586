/** Often enough for a curve that moves, and seldom enough for thousands of events at once. */
const INTERVAL_MS = 250;

export interface Refresher {
  /** Something has changed: refreshes soon, once for all requests until then. */
  request(): void;
  end(): void;
}

export function createRefresher(refresh: () => void): Refresher {
  let timer: ReturnType<typeof setTimeout> | null = null;
  return {
    request() {
      timer ??= setTimeout(() => {
        timer = null;
        refresh();
      }, INTERVAL_MS);
    },
    end() {
      if (timer !== null) clearTimeout(timer);
      timer = null;
    },
  };
}
