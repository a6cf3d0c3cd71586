import { expect, test } from 'vitest';
import { autoHyperparameters } from './fine-tuning-settings.js';

test.each([
  [1, 10, 1],
  [10, 10, 1],
  [31, 4, 1],
  [32, 7, 2],
  [64, 7, 4],
  [127, 4, 4],
  [128, 7, 8],
  [272, 3, 8],
  [1_000, 3, 8],
  [12_500, 2, 8],
  [1_000_000, 1, 8],
])('a file of %d rows has %d epochs in batches of %d', (rows, epochs, batchSize) => {
  expect(autoHyperparameters('supervised', rows, {})).toMatchObject({ epochs, batchSize });
  const auto = { n_epochs: 'auto', batch_size: 'auto' } as const;
  expect(autoHyperparameters('dpo', rows, auto)).toMatchObject({ epochs, batchSize });
});

test.each([
  ['supervised', 10, 2],
  ['supervised', 128, 1.8],
  ['supervised', 272, 2],
  ['supervised', 1_000, 1],
  ['supervised', 1_000_000, 1],
  ['dpo', 1, 40],
  ['dpo', 10, 19],
  ['dpo', 1_000, 5.1],
  ['dpo', 100_000, 1],
] as const)('%s on a file of %d rows has a multiplier of %f', (method, rows, multiplier) => {
  const unit = { supervised: 1e-4, dpo: 5e-6 }[method];
  expect(autoHyperparameters(method, rows, {}).learningRate / unit).toBeCloseTo(multiplier, 10);
});

test('what is given stays, and decides about the rest', () => {
  const chosen = (rows: number, given: Parameters<typeof autoHyperparameters>[2]) =>
    autoHyperparameters('dpo', rows, given);
  expect(chosen(10, { n_epochs: 2 })).toMatchObject({ epochs: 2, batchSize: 1 });
  expect(chosen(9, { n_epochs: 2 }).learningRate).toBeCloseTo(2e-4, 12);
  expect(chosen(100, { batch_size: 50 })).toMatchObject({ epochs: 10, batchSize: 50 });
  expect(chosen(9, { learning_rate_multiplier: 3 }).learningRate).toBeCloseTo(1.5e-5, 12);
});
