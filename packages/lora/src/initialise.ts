/** Small generator with 128 bits of state (Blackman & Vigna's xoshiro128**), for reproducible initial weights. */
class Xoshiro128 {
  readonly #state: Uint32Array;

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

  /** Uniform in [0, 1) with 32 bits. */
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
}

/**
 * Initial A as PEFT and the paper's code have it: Kaiming-uniform with a = √5
 * (torch.nn.init.kaiming_uniform_), which is uniform in ±1/√in. B begins as zeros, so training starts from the base.
 * @param module full name; with the seed it decides the numbers, whatever else is adapted
 * @returns `[rank, in]`
 */
export function initialA(rank: number, inFeatures: number, seed: number, module: string): Float32Array {
  const generator = new Xoshiro128(seed, module);
  const bound = 1 / Math.sqrt(inFeatures);
  return Float32Array.from({ length: rank * inFeatures }, () => (2 * generator.next() - 1) * bound);
}
