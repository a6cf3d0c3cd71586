import { SeededRandom } from './seeded-random.js';

/** The numbers 0 … count - 1 in a random order, read one position at a time. */
export interface Permutation {
  /** @param index 0 … count - 1 */
  at(index: number): number;
}

/** Up to this count, the order is a list with 4 bytes per number (16 MiB). Longer orders are computed, to limit memory. */
export const MAX_LISTED = 2 ** 22;

/** Rounds of the network: few enough to be fast, enough to separate neighbours. */
const ROUNDS = 6;

/** @param stream the purpose of the order, for instance `order of epoch 3` */
export function seededPermutation(seed: number, stream: string, count: number): Permutation {
  const random = new SeededRandom(seed, stream);
  if (count > MAX_LISTED) return computedPermutation(random, count);
  const order = random.permutation(count);
  return { at: (index) => order[index]! };
}

/**
 * A Feistel network over the smallest even number of bits that holds `count`, repeated until the result is below it: a
 * bijection that needs no memory (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
 *
 * @param count at most 2^32
 */
export function computedPermutation(random: SeededRandom, count: number): Permutation {
  const halfBits = Math.max(1, Math.ceil(Math.log2(count) / 2));
  const side = 2 ** halfBits;
  const keys = Array.from({ length: ROUNDS }, () => Math.floor(random.next() * 2 ** 32));
  const once = (number: number): number => {
    let left = Math.floor(number / side);
    let right = number % side;
    for (const key of keys) [left, right] = [right, left ^ (mixed(right, key) & (side - 1))];
    return left * side + right;
  };
  return {
    at(index) {
      let number = once(index);
      // Fewer than four iterations on average, since the network has fewer than 4 × count numbers.
      while (number >= count) number = once(number);
      return number;
    },
  };
}

/** The finalizer of MurmurHash3: every bit of the input affects every bit of the result. */
function mixed(value: number, key: number): number {
  let hash = value ^ key;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
