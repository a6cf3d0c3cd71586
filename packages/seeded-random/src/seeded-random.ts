/**
 * Reproducible random numbers: Blackman & Vigna's xoshiro128** (128 bits of state). The seed is a number and the name of a
 * stream, so that the numbers for one purpose do not depend on those drawn for others.
 */
export class SeededRandom {
  readonly #state: Uint32Array;

  /** @param stream the purpose of the numbers, for instance `order of epoch 3` */
  constructor(seed: number, stream: string) {
    // FNV-1a of seed and stream, then splitmix32 to fill the state.
    let hash = 2166136261;
    for (const character of `${seed}/${stream}`) hash = Math.imul(hash ^ character.codePointAt(0)!, 16777619);
    this.#state = Uint32Array.from({ length: 4 }, () => {
      hash = (hash + 0x9e3779b9) | 0;
      let mixed = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    });
  }

  /** Uniform in [0, 1), 32 bits. */
  next(): number {
    const state = this.#state;
    const product = Math.imul(state[1]!, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= shifted;
    state[3] = (state[3]! << 11) | (state[3]! >>> 21);
    return result / 2 ** 32;
  }

  /** Fills an array with numbers uniform in [-bound, bound): `(2 · next() - 1) · bound`, rounded to float32. */
  fillUniform(values: Float32Array, bound: number): void {
    // As `next`, with the state in local variables, which is ten times as fast.
    let [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = Int32Array.from(this.#state);
    for (let i = 0; i < values.length; i++) {
      const product = Math.imul(s1, 5);
      const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
      const shifted = s1 << 9;
      s2 ^= s0;
      s3 ^= s1;
      s1 ^= s2;
      s0 ^= s3;
      s2 ^= shifted;
      s3 = (s3 << 11) | (s3 >>> 21);
      values[i] = (2 * (result / 2 ** 32) - 1) * bound;
    }
    this.#state.set([s0, s1, s2, s3]);
  }

  /** The numbers 0 … count - 1 in random order (Fisher and Yates). */
  permutation(count: number): Int32Array {
    const order = Int32Array.from({ length: count }, (_, index) => index);
    for (let last = count - 1; last > 0; last--) {
      const other = Math.floor(this.next() * (last + 1));
      const swapped = order[last]!;
      order[last] = order[other]!;
      order[other] = swapped;
    }
    return order;
  }
}

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
