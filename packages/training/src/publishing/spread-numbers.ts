import { SeededRandom } from '@lorasmith/seeded-random';

/** Numbers of mean 0 and variance 1, always the same ones: multiples of 1/64, so that they are short in a manifest and exact in every dtype. */
export function spreadNumbers(count: number): Float32Array {
  const random = new SeededRandom(0, 'features of the probe');
  return Float32Array.from({ length: count }, () => Math.round(64 * Math.sqrt(3) * (2 * random.next() - 1)) / 64);
}
