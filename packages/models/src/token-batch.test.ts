import { describe, expect, test } from 'vitest';
import { joinTokenBatches, type TokenBatch, tokenBatchOf, tokensOfRows } from './token-batch.js';

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

describe('rows that begin alike', () => {
  const ALIKE = () => true;
  const row = (prompt: number[], ...answer: number[]) => ({
    ids: Int32Array.from([...prompt, ...answer]),
    trained: new Uint8Array(prompt.length + answer.length).fill(1, prompt.length),
  });
  const placed = ({ ids, places }: TokenBatch) => [...places!].map((place) => ids[place]);

  test('share what they begin with, but for the token that predicts the first label of each', () => {
    const batch = tokenBatchOf([row([1, 2, 3], 4), row([1, 2, 3], 5, 6), row([1, 2, 3], 7, 8, 9)], ALIKE);
    expect([...batch.ids]).toEqual([3, 7, 8, 9, 3, 5, 6, 1, 2, 3, 4]);
    expect(batch.rowLengths).toEqual([6, 5, 4]);
    expect(placed(batch)).toEqual([1, 2, 3, 7, 8, 9, 1, 2, 3, 5, 6, 1, 2, 3, 4]);
    expect(batch.order).toEqual([2, 1, 0]);
    expect([...batch.predictors]).toEqual([0, 1, 2, 4, 5, 9]);
    expect([...batch.labels]).toEqual([7, 8, 9, 5, 6, 4]);
    expect(tokensOfRows(batch)).toBe(15);
  });

  test('share no answer, even one that is the same in both, and nothing that is a label of one', () => {
    const same = tokenBatchOf([row([1, 2], 3, 4), row([1, 2], 3, 5)], ALIKE);
    expect([...same.ids]).toEqual([1, 2, 3, 4, 2, 3, 5]);
    const whole = { ...row([1, 2], 3), trained: Uint8Array.of(1, 1, 1) };
    expect(tokenBatchOf([whole, row([1, 2], 4)], ALIKE).places).toBeNull();
  });

  test('share with the row before alone, each prompt by itself', () => {
    const rows = [row([1, 2], 3), row([1, 2], 4), row([5, 6], 7), row([5, 6], 8), row([1, 2], 9)];
    const batch = tokenBatchOf(rows, ALIKE);
    expect([...batch.ids]).toEqual([1, 2, 3, 2, 4, 5, 6, 7, 6, 8, 1, 2, 9]);
    expect([...batch.places!]).toEqual([0, 1, 2, 0, 3, 4, 5, 6, 7, 5, 8, 9, 10, 11, 12]);
  });

  test('share nothing unless their lengths allow it', () => {
    expect(tokenBatchOf([row([1, 2], 3), row([1, 2], 4)]).places).toBeNull();
    const rows = [row([1, 2, 8], 3), row([1, 2, 8], 4, 5), row([1, 2, 8], 6, 7)];
    const batch = tokenBatchOf(rows, (length, other) => length === other);
    expect([...batch.ids]).toEqual([1, 2, 8, 4, 5, 8, 6, 7, 1, 2, 8, 3]);
  });

  test('share nothing where that saves less than an eighth of a batch', () => {
    const answer = Array.from({ length: 20 }, (_, token) => token);
    const rows = [row([1, 2, 3, 4], ...answer), row([1, 2, 3, 4], ...answer)];
    expect(tokenBatchOf(rows, ALIKE).places).toBeNull();
    expect(
      tokenBatchOf(
        rows.map(({ ids, trained }) => ({ ids: ids.subarray(0, 12), trained })),
        ALIKE,
      ).places,
    ).not.toBeNull();
  });

  test('of which one has no label share all of it', () => {
    const silent = { ids: Int32Array.of(1, 2), trained: Uint8Array.of(0, 0) };
    const batch = tokenBatchOf([row([1, 2, 3], 4), silent], ALIKE);
    expect([...batch.ids]).toEqual([1, 2, 3, 4]);
    expect([...batch.places!]).toEqual([0, 1, 2, 3, 0, 1]);
  });

  test('share it in a joined batch, too, in which others share nothing', () => {
    const { batch, tokens } = joinTokenBatches([
      tokenBatchOf([row([8], 9)]),
      tokenBatchOf([row([1, 2], 3), row([1, 2], 4)], ALIKE),
    ]);
    expect([...batch.places!]).toEqual([0, 1, 2, 3, 4, 2, 5, 6]);
    expect(placed(batch)).toEqual([8, 9, 1, 2, 3, 1, 2, 4]);
    expect(tokens).toEqual([
      { first: 0, count: 2 },
      { first: 2, count: 5 },
    ]);
  });
});
