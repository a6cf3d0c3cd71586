import { SeededRandom } from './seeded-random.js';

/** The numbers 0 … count - 1 in a random order that can be asked for place by place. */
export interface RowPermutation {
  /** @param place 0 … count - 1 */
  at(place: number): number;
}

/** Up to so many the order is a list of 4 bytes each (16 MiB); beyond, it is computed, so that memory has a bound. */
export const MAX_LISTED = 2 ** 22;

/** Few enough to be quick, many enough that neighbours are no neighbours any more. */
const ROUNDS = 6;

/** @param stream what the order is for, for instance `order of epoch 3` */
export function rowPermutation(seed: number, stream: string, count: number): RowPermutation {
  const random = new SeededRandom(seed, stream);
  if (count > MAX_LISTED) return computedPermutation(random, count);
  const order = random.permutation(count);
  return { at: (place) => order[place]! };
}

/**
 * A Feistel network over the smallest even number of bits that holds `count`, walked on until it is within it: a
 * bijection that needs no memory (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
 *
 * @param count at most 2^32
 */
export function computedPermutation(random: SeededRandom, count: number): RowPermutation {
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
    at(place) {
      let number = once(place);
      // Fewer than four times on average, since there are fewer than 4 × count numbers of so many bits.
      while (number >= count) number = once(number);
      return number;
    },
  };
}

/** The end of MurmurHash3: every bit of the input has a say in every bit of the result. */
function mixed(value: number, key: number): number {
  let hash = value ^ key;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
