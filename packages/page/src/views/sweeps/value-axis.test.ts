import { expect, test } from 'vitest';
import { distinctValues, fieldAxis, metricAxis, valueColors } from './value-axis.js';

test('different values: numbers ascending, others in their order', () => {
  expect(distinctValues([16, 4, 16, 8])).toEqual([4, 8, 16]);
  expect(distinctValues([null, 1, null])).toEqual([null, 1]);
  expect(distinctValues([['q_proj'], 'all-linear', ['q_proj']])).toEqual([['q_proj'], 'all-linear']);
});

test('a field of numbers has a linear axis, or a logarithmic one where they differ by factors', () => {
  const linear = fieldAxis('Dropout', [0, 0.1, 0.05]);
  expect([0, 0.05, 0.1].map(linear.at)).toEqual([0, 0.5, 1]);
  const logarithmic = fieldAxis('Rank', [4, 16, 8]);
  expect(logarithmic.at(8)).toBeCloseTo(0.5, 12);
  expect(logarithmic.ticks.map(({ text }) => text)).toEqual(['4', '8', '16']);
});

test('other values stand at even distances, and a single one in the middle', () => {
  const axis = fieldAxis('Schedule', ['linear', 'cosine', 'constant']);
  expect(['linear', 'cosine', 'constant'].map(axis.at)).toEqual([0, 0.5, 1]);
  expect(fieldAxis('Rank', [8]).ticks).toEqual([{ text: '8', at: 0.5 }]);
});

test('an axis of many values has three ticks', () => {
  const axis = fieldAxis('Seed', [1, 2, 3, 4, 5, 6, 7]);
  expect(axis.ticks.map(({ text }) => text)).toEqual(['1', '4', '7']);
});

test('the axis of a metric reaches from its least to its greatest value', () => {
  const axis = metricAxis('Loss', [0.4, 0.2, 0.3]);
  expect(axis.ticks.map(({ text, at }) => [text, Math.round(100 * at)])).toEqual([
    ['0.2', 0],
    ['0.3', 50],
    ['0.4', 100],
  ]);
  expect(metricAxis('Loss', [0.2]).ticks).toEqual([{ text: '0.2', at: 0.5 }]);
});

test('each value has a colour, and neighbours share one where there are more values than colours', () => {
  const few = valueColors([8, 4, 8]);
  expect(few.groups).toEqual([
    { color: 1, text: '4' },
    { color: 2, text: '8' },
  ]);
  expect(few.colorOf(8)).toBe(2);
  const many = valueColors([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(many.groups.map(({ text }) => text)).toEqual(['1 to 2', '3', '4 to 5', '6', '7 to 8', '9']);
  expect(many.groups.map(({ color }) => color)).toEqual([1, 2, 3, 4, 5, 6]);
});
