import { join } from 'node:path';
import { type Decoder, LoraAdapter } from '@lorasmith/models';
import { type PeftAdapter, readPeftFolder } from '@lorasmith/peft-files';
import { expect } from 'vitest';
import { differenceByLargest, greatestDifference } from '../../../test/numeric/greatest-difference.js';
import type { Batch } from '../src/batches.js';
import { readTensors } from '../src/check-reference/reference-case.js';

// What tests share that compare a training with one of TRL's trainers: test/fixtures/preferences and groups.

/** Sums of some tens of tokens and means of a few answers in float32, after steps that start from gradients in other roundings. */
export const TOLERANCE = { loss: 1e-5, metric: 1e-5, gradient: 1e-5, trained: 1e-5 };

type Gradients = ReadonlyMap<string, { a: Float32Array; b: Float32Array }>;

/** An adapter as it was before the first step. */
export function adapterOn({ groups }: Decoder, initial: PeftAdapter): LoraAdapter {
  const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
  return new LoraAdapter(groups, { targets, dropout: 0, seed: 0, initial });
}

/** The gradients of the mean of some batches. @param count what is in them that has a loss */
export async function gradientOf(
  adapter: LoraAdapter,
  batches: AsyncIterable<Batch>,
  count: number,
): Promise<Gradients> {
  for await (const batch of batches) {
    const { losses, correct } = batch.lossAndGradients({ adapters: [{ adapter }] });
    losses.dispose();
    correct.dispose();
  }
  const gradient = adapter.takeGradient();
  const matrices = adapter.matricesOf(gradient);
  gradient.dispose();
  const mean = (values: Float32Array) => values.map((value) => value / count);
  return new Map([...matrices].map(([module, { a, b }]) => [module, { a: mean(a), b: mean(b) }]));
}

/** Expects the gradients of the first step and the adapter after the last to be those of a case. */
export async function expectAsTrained(
  folder: string,
  { gradients, trained }: { gradients: Gradients; trained: PeftAdapter },
): Promise<void> {
  const wanted = await readTensors(join(folder, 'gradients.safetensors'));
  let compared = 0;
  for (const [module, { a, b }] of gradients) {
    for (const [letter, found] of [['A', a] as const, ['B', b] as const]) {
      const gradient = wanted.get(`base_model.model.${module}.lora_${letter}.weight`)!.data;
      compared++;
      const isZero = gradient.every((value) => value === 0);
      const error = isZero ? greatestDifference(found, gradient) : differenceByLargest(found, gradient);
      expect(error, `${module}.lora_${letter}`).toBeLessThan(TOLERANCE.gradient);
    }
  }
  expect(compared).toBe(wanted.size);

  const after = await readPeftFolder(join(folder, 'adapter_trained'));
  expect([...trained.modules.keys()].sort()).toEqual([...after.modules.keys()].sort());
  for (const [module, { a, b }] of after.modules) {
    const found = trained.modules.get(module)!;
    expect(greatestDifference(found.a, a), `A of ${module}`).toBeLessThan(TOLERANCE.trained);
    expect(greatestDifference(found.b, b), `B of ${module}`).toBeLessThan(TOLERANCE.trained);
  }
}

/** A prompt with an answer, whose tokens are trained. */
export function sequenceOf(prompt: readonly number[], answer: readonly number[]) {
  return {
    ids: Int32Array.of(...prompt, ...answer),
    trained: Uint8Array.from([...prompt.map(() => 0), ...answer.map(() => 1)]),
  };
}

/** Examples of these lengths, with so many labels each. */
export function sideOf(lengths: readonly number[], labels: readonly number[]) {
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  return {
    count: lengths.length,
    tokens: sum(lengths),
    trainedTokens: sum(labels),
    longest: Math.max(...lengths),
    lengthOf: (index: number) => lengths[index]!,
    labelsOf: (index: number) => labels[index]!,
    lineOf: (index: number) => index + 1,
  };
}

/** Parts of these sizes. */
export function cut(indices: readonly number[], sizes: readonly number[]): number[][] {
  return sizes.map((size, part) => {
    const first = sizes.slice(0, part).reduce((sum, one) => sum + one, 0);
    return indices.slice(first, first + size);
  });
}
