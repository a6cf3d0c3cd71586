/** The bucket of a hit count: 1, 2, 3, 4 to 7, 8 to 15, …, as in AFL. @param {number} runs */
const bucketOf = (runs) => (runs < 4 ? runs : 2 + Math.floor(Math.log2(runs)));

/** The locations of the instrumented modules that any input has reached, and how often. */
export class CoverageMap {
  /** @type {Map<Counters, Uint8Array>} for each array of counters, the buckets seen so far, as bits */
  #seen = new Map();
  #locations = 0;

  get locations() {
    return this.#locations;
  }

  /** Sets every counter to 0. */
  begin() {
    for (const counters of allCounters()) counters.fill(0);
  }

  /** @returns {boolean} whether the input reached a new location, or a known one in a new bucket of hit counts */
  end() {
    let isNew = false;
    for (const counters of allCounters()) {
      let seen = this.#seen.get(counters);
      if (seen === undefined) {
        seen = new Uint8Array(counters.length);
        this.#seen.set(counters, seen);
      }
      for (let i = 0; i < counters.length; i++) {
        const runs = counters[i] ?? 0;
        if (runs === 0) continue;
        const bit = 1 << Math.min(bucketOf(runs) - 1, 7);
        if ((seen[i] ?? 0) & bit) continue;
        if (seen[i] === 0) this.#locations++;
        seen[i] = (seen[i] ?? 0) | bit;
        isNew = true;
      }
    }
    return isNew;
  }
}

/** @type {{ files: number, counters: Counters[] }} */
const cached = { files: 0, counters: [] };

/** @typedef {{ fill(value: number): void, length: number, [location: number]: number | undefined }} Counters */

/** @returns {Counters[]} */
function allCounters() {
  const coverage = /** @type {Record<string, { s: object, b: Record<string, number[]> }>} */ (
    /** @type {any} */ (globalThis).__coverage__ ?? {}
  );
  const files = Object.values(coverage);
  if (files.length !== cached.files) {
    cached.files = files.length;
    cached.counters = files.flatMap(({ s, b }) => [/** @type {Counters} */ (countersOf(s)), ...Object.values(b)]);
  }
  return cached.counters;
}

/** The counts of statements are an object with numbers as keys. @param {object} counts */
function countersOf(counts) {
  const keys = Object.keys(counts);
  return Object.assign(counts, {
    length: keys.length,
    fill: (/** @type {number} */ value) => {
      for (const key of keys) /** @type {any} */ (counts)[key] = value;
    },
  });
}
