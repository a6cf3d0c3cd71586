/** Resolves after `ms`, or when `signal` is aborted. Keeps no process alive. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms).unref();
  });
  await untilAborted(over, signal);
  clearTimeout(timer);
}

/** The result of the work, or that of `onLate` after `timeoutMs`. The work continues then, and its errors are ignored. */
export async function inTime<Result, Late>(
  work: Promise<Result>,
  timeoutMs: number,
  onLate: () => Late,
): Promise<Result | Late> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Late>((resolve, reject) => {
    timer = setTimeout(() => {
      try {
        resolve(onLate());
      } catch (error) {
        reject(error);
      }
    }, timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The result of the work, or null as soon as `signal` is aborted. The work continues then, and its errors are ignored. */
export async function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result | null> {
  let onAbort = () => {};
  const aborted = new Promise<null>((resolve) => {
    onAbort = () => resolve(null);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) resolve(null);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Waits that end at a time, or sooner by a call. One wait at a time. */
export class Alarm {
  #isRung = false;
  #end: (() => void) | null = null;

  /** Ends the current wait. Without one, ends the next wait at once. */
  ring(): void {
    if (this.#end === null) this.#isRung = true;
    else this.#end();
  }

  /** Forgets a ring that has ended no wait. */
  clear(): void {
    this.#isRung = false;
  }

  /** Resolves after `ms`, when it rings, or when `signal` is aborted. Null: only then. */
  async wait(ms: number | null, signal?: AbortSignal): Promise<void> {
    if (this.#isRung || signal?.aborted) {
      this.#isRung = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', end);
        this.#end = null;
        resolve();
      };
      const timer = ms === null ? undefined : setTimeout(end, ms);
      this.#end = end;
      signal?.addEventListener('abort', end);
    });
  }
}
