import { createHash } from 'node:crypto';

/** Rows remembered; of a larger dataset equal rows are found among the first so many. */
export const MAX_REMEMBERED_ROWS = 200_000;
/** At most two fifths are taken, so that a free place is near. */
const PLACES = 2 ** 19;

/** Tells rows that came before by 64 bits of their digest, in 4 MB whatever the number of rows. */
export class SeenRows {
  /** Two words a place; both 0: it is free. */
  readonly #digests = new Uint32Array(2 * PLACES);
  #count = 0;

  /** @returns whether the same row came before; if not, it is remembered */
  seen(row: string): boolean {
    const digest = createHash('sha1').update(row).digest();
    const [first, second] = [digest.readUInt32LE(0), digest.readUInt32LE(4) || 1];
    for (let place = first % PLACES; ; place = (place + 1) % PLACES) {
      const known = this.#digests[2 * place + 1];
      if (known === 0) {
        if (this.#count === MAX_REMEMBERED_ROWS) return false;
        this.#digests[2 * place] = first;
        this.#digests[2 * place + 1] = second;
        this.#count++;
        return false;
      }
      if (known === second && this.#digests[2 * place] === first) return true;
    }
  }
}
