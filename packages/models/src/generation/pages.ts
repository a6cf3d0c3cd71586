/** Lends the pages of a cache. A page that several texts share is free when the last of them has given it back. */
export class Pages {
  readonly #free: number[];
  readonly #holders: Uint32Array;

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, page) => count - 1 - page);
    this.#holders = new Uint32Array(count);
  }

  get free(): number {
    return this.#free.length;
  }

  /** Takes at most {@link free} pages. */
  take(count: number): number[] {
    const taken = this.#free.splice(this.#free.length - count, count);
    for (const page of taken) this.#holders[page] = 1;
    return taken;
  }

  share(pages: readonly number[]): void {
    for (const page of pages) this.#holders[page]! += 1;
  }

  /** @returns those that nobody holds any more */
  giveBack(pages: readonly number[]): number[] {
    const unheld = pages.filter((page) => --this.#holders[page]! === 0);
    this.#free.push(...unheld);
    return unheld;
  }
}
