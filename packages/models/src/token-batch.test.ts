import { expect, test } from 'vitest';
import { joinTokenBatches, tokenBatchOf } from './token-batch.js';

test('rows lie one after the other, longest first; each trained token has the token before it as its predictor', () => {
  const batch = tokenBatchOf([
    { ids: Int32Array.of(7, 8), trained: Uint8Array.of(0, 1) },
    { ids: Int32Array.of(1, 2, 3, 4), trained: Uint8Array.of(0, 0, 1, 1) },
    { ids: Int32Array.of(5), trained: Uint8Array.of(0) },
  ]);
  expect([...batch.ids]).toEqual([1, 2, 3, 4, 7, 8, 5]);
  expect(batch.rowLengths).toEqual([4, 2, 1]);
  expect([...batch.predictors]).toEqual([1, 2, 4]);
  expect([...batch.labels]).toEqual([3, 4, 8]);
});

test('the first token of a row is never trained: what is before it belongs to another row', () => {
  const row = { ids: Int32Array.of(1, 2), trained: Uint8Array.of(1, 1) };
  const batch = tokenBatchOf([row, row]);
  expect([...batch.predictors]).toEqual([0, 2]);
  expect([...batch.labels]).toEqual([2, 2]);
});

test('joined batches lie one after the other, and say which tokens, labels and rows are whose', () => {
  const row = (...ids: number[]) => ({ ids: Int32Array.from(ids), trained: new Uint8Array(ids.length).fill(1) });
  const { batch, tokens, labels } = joinTokenBatches([
    tokenBatchOf([row(1, 2), row(3, 4, 5)]),
    tokenBatchOf([row(6, 7)]),
  ]);
  expect(tokens).toEqual([
    { first: 0, count: 5 },
    { first: 5, count: 2 },
  ]);
  expect(labels).toEqual([
    { first: 0, count: 3 },
    { first: 3, count: 1 },
  ]);
  expect([...batch.ids]).toEqual([3, 4, 5, 1, 2, 6, 7]);
  expect(batch.rowLengths).toEqual([3, 2, 2]);
  expect(batch.order).toEqual([1, 0, 2]);
  expect([...batch.predictors]).toEqual([0, 1, 3, 5]);
  expect([...batch.labels]).toEqual([4, 5, 2, 7]);
});
