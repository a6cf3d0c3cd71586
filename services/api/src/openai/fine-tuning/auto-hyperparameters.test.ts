import { expect, test } from 'vitest';
import { autoHyperparameters } from './auto-hyperparameters.js';

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
  expect(autoHyperparameters(rows, {})).toEqual({ epochs, batchSize });
  expect(autoHyperparameters(rows, { n_epochs: 'auto', batch_size: 'auto' })).toEqual({ epochs, batchSize });
});

test('what is given stays, and decides about the rest', () => {
  expect(autoHyperparameters(10, { n_epochs: 2 })).toEqual({ epochs: 2, batchSize: 1 });
  expect(autoHyperparameters(100, { batch_size: 50 })).toEqual({ epochs: 10, batchSize: 50 });
});
