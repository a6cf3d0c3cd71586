import { createHash } from 'node:crypto';

/** Maximum stored rows. In a larger dataset, only repetitions of these first rows are found. */
export const MAX_REMEMBERED_ROWS = 200_000;
/** At most two fifths of the slots are used, so that a free slot is near. */
const PLACES = 2 ** 19;

/** Recognizes repeated rows by 64 bits of their digest, in 4 MB for any number of rows. */
export class SeenRows {
  /** Two words per slot; a free slot has two zeros. */
  readonly #digests = new Uint32Array(2 * PLACES);
  #count = 0;

  /** @returns whether the row is a repetition; otherwise it is stored */
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
