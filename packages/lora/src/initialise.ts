import { SeededRandom } from '@lorasmith/seeded-random';

/**
 * Initial A as PEFT and the paper's code have it: Kaiming-uniform with a = √5
 * (torch.nn.init.kaiming_uniform_), which is uniform in ±1/√in. B begins as zeros, so training starts from the base.
 * @param module full name; with the seed it decides the numbers, whatever else is adapted
 * @returns `[rank, in]`
 */
export function initialA(rank: number, inFeatures: number, seed: number, module: string): Float32Array {
  const random = new SeededRandom(seed, `lora_A of ${module}`);
  const bound = 1 / Math.sqrt(inFeatures);
  return Float32Array.from({ length: rank * inFeatures }, () => (2 * random.next() - 1) * bound);
}
