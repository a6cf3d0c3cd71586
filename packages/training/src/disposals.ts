/** Resources that are freed together, the last one first. */
export class Disposals {
  readonly #all: (() => void | Promise<void>)[] = [];

  add(free: () => void | Promise<void>): void {
    this.#all.push(free);
  }

  /** Frees each once, also when it is called again. */
  async dispose(): Promise<void> {
    for (let free = this.#all.pop(); free !== undefined; free = this.#all.pop()) await free();
  }
}
