/** Boundary values that often break readers. */
const INTERESTING = [
  0,
  1,
  7,
  8,
  16,
  32,
  64,
  100,
  127,
  128,
  255,
  256,
  512,
  1024,
  32767,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
];

/**
 * @typedef {(below: number) => number} Random
 *
 * @param {number} seed
 * @returns {Random} integers from 0 (mulberry32)
 */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/**
 * Mutates a copy of an input: changes bytes or numbers, or inserts words of the format or a part of another input.
 *
 * @param {Buffer} input
 * @param {{ random: Random, words: Buffer[], others: Buffer[], maxBytes: number }} options
 * @returns {Buffer}
 */
export function mutate(input, { random, words, others, maxBytes }) {
  /** @type {Buffer} */
  let bytes = Buffer.from(input);
  for (let times = 1 + random(random(3) === 0 ? 16 : 3); times > 0; times--) {
    const at = random(bytes.length + 1);
    const length = Math.min(1 + random(random(4) === 0 ? 256 : 8), bytes.length - at);
    switch (random(9)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random(256);
        break;
      case 2:
        bytes = writeNumber(bytes, at, INTERESTING[random(INTERESTING.length)] ?? 0, random);
        break;
      case 3:
        if (at < bytes.length) bytes[at] = ((bytes[at] ?? 0) + random(35) - 17) & 0xff;
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)]);
        break;
      case 6:
      case 7: {
        const word = words[random(words.length)] ?? Buffer.alloc(0);
        const replaced = random(2) === 0 ? word.length : 0;
        bytes = Buffer.concat([bytes.subarray(0, at), word, bytes.subarray(at + replaced)]);
        break;
      }
      default: {
        const other = others[random(others.length)] ?? bytes;
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random(other.length + 1))]);
      }
    }
  }
  return bytes.subarray(0, maxBytes);
}

/** @param {Buffer} bytes @param {number} at @param {number} value @param {Random} random */
function writeNumber(bytes, at, value, random) {
  const width = [1, 2, 4, 8][random(4)] ?? 1;
  if (at + width > bytes.length) return bytes;
  const number = random(4) === 0 ? 2n ** BigInt(8 * width) - 1n - BigInt(random(8)) : BigInt(value);
  for (let i = 0; i < width; i++) bytes[at + i] = Number((number >> BigInt(8 * i)) & 0xffn);
  return bytes;
}
