/** The seconds that each part took. */
export class PartTimes {
  /** @type {string[]} */
  #parts = [];

  /**
   * @template Result
   * @param {string} name
   * @param {Promise<Result>} part
   */
  async of(name, part) {
    const startedAt = performance.now();
    try {
      return await part;
    } finally {
      this.#parts.push(`${name} ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
    }
  }

  text() {
    return `Time: ${this.#parts.join(', ')}`;
  }
}
