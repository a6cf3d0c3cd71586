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
