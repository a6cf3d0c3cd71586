import { hash } from 'node:crypto';

/** Maximum stored rows. In a larger dataset, only repetitions of these first rows are found. */
export const MAX_REMEMBERED_ROWS = 200_000;
/** The number of slots. At most two fifths are used, so that a free slot is near. */
const PLACES = 2 ** 19;

/** Recognizes repeated rows by 64 bits of their digest, in 4 MB for any number of rows. */
export class SeenRows {
  /** Two words per slot; a free slot has two zeros. */
  readonly #digests = new Uint32Array(2 * PLACES);
  #count = 0;

  /** @returns whether the row is a repetition; otherwise it is stored */
  seen(row: Uint8Array): boolean {
    // In one call, and as a string of bytes: a Hash and a Buffer for each row take longer than the digest.
    const digest = hash('sha1', row, 'binary');
    const first = wordOf(digest, 0);
    const second = wordOf(digest, 4) || 1;
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

function wordOf(digest: string, at: number): number {
  const [a, b] = [digest.charCodeAt(at), digest.charCodeAt(at + 1)];
  const [c, d] = [digest.charCodeAt(at + 2), digest.charCodeAt(at + 3)];
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}
