import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '@lorasmith/weight-files';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';

/** Writes a random classifier of 6 features and 3 classes as a base-model folder. */
export async function writeTinyClassifier(folder: string): Promise<void> {
  const layers = [6, 16, 3];
  await writeFile(
    join(folder, 'config.json'),
    JSON.stringify({ model_type: 'classifier', layers, activation: 'relu' }),
  );
  const tensor = (name: string, shape: number[], seed: number) => {
    const values = normalNumbers(
      shape.reduce((product, dimension) => product * dimension, 1),
      seed,
    ).map((value) => 0.4 * value);
    return { name, dtype: 'F32' as const, shape, data: new Uint8Array(values.buffer) };
  };
  await writeSafetensors(join(folder, 'model.safetensors'), [
    tensor('0.weight', [16, 6], 1),
    tensor('0.bias', [16], 2),
    tensor('2.weight', [3, 16], 3),
    tensor('2.bias', [3], 4),
  ]);
}

/** Rows whose label is the greatest of three sums of their features: something to learn. */
export function classifierRows(count: number): { features: number[]; label: number }[] {
  const numbers = normalNumbers(count * 6, 9);
  return Array.from({ length: count }, (_, row) => {
    const features = [...numbers.subarray(6 * row, 6 * row + 6)];
    const sums = [0, 1, 2].map((label) => features[label]! + features[label + 3]!);
    return { features, label: sums.indexOf(Math.max(...sums)) };
  });
}
