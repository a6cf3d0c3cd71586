/** Runs of a place are told apart as 1, 2, 3, 4 to 7, 8 to 15, … times, as AFL does. @param {number} runs */
const bucketOf = (runs) => (runs < 4 ? runs : 2 + Math.floor(Math.log2(runs)));

/** Which places of the measured modules were reached by any input, and how often at most. */
export class CoverageMap {
  /** @type {Map<Counters, Uint8Array>} of each array of counters the buckets seen, as bits */
  #seen = new Map();
  #places = 0;

  get places() {
    return this.#places;
  }

  /** Sets every counter to 0. */
  begin() {
    for (const counters of allCounters()) counters.fill(0);
  }

  /** @returns {boolean} whether the input reached a place, or reached one as often, as none did before */
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
        if (seen[i] === 0) this.#places++;
        seen[i] = (seen[i] ?? 0) | bit;
        isNew = true;
      }
    }
    return isNew;
  }
}

/** @type {{ files: number, counters: Counters[] }} */
const cached = { files: 0, counters: [] };

/** @typedef {{ fill(value: number): void, length: number, [place: number]: number | undefined }} Counters */

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

/** Statements are counted in an object with numbers as keys. @param {object} counts */
function countersOf(counts) {
  const keys = Object.keys(counts);
  return Object.assign(counts, {
    length: keys.length,
    fill: (/** @type {number} */ value) => {
      for (const key of keys) /** @type {any} */ (counts)[key] = value;
    },
  });
}
