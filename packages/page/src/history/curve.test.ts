import { expect, test } from 'vitest';
import { Curve } from './curve.js';

function curveOf(values: readonly number[], maxPoints?: number): Curve {
  const curve = new Curve(maxPoints);
  for (const [index, value] of values.entries()) curve.add(index + 1, value);
  return curve;
}

test('as long as there is space, each step is a point', () => {
  const points = curveOf([3, 1, 2]).points();
  expect(points).toEqual({ steps: [1, 2, 3], mean: [3, 1, 2], min: [3, 1, 2], max: [3, 1, 2] });
});

test('two points become one when there are too many; mean, minimum and maximum are those of the steps', () => {
  const curve = curveOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 4);
  expect(curve.stepsPerPoint).toBe(4);
  expect(curve.points()).toEqual({ steps: [4, 8, 9], mean: [2.5, 6.5, 9], min: [1, 5, 9], max: [4, 8, 9] });
});

test('a million steps stay bounded, and keep their extremes and their mean', () => {
  const values = Array.from({ length: 1_000_000 }, (_, i) => Math.sin(i / 1000) + (i === 500_123 ? 100 : 0));
  const curve = curveOf(values);
  const { steps, mean, max } = curve.points();
  expect(steps.length).toBeLessThanOrEqual(1024);
  expect(steps.length).toBeGreaterThan(512);
  expect(steps.at(-1)).toBe(1_000_000);
  expect(Math.max(...max)).toBeGreaterThan(99);
  let begin = 0;
  let total = 0;
  for (const [index, step] of steps.entries()) {
    total += mean[index]! * (step - begin);
    begin = step;
  }
  expect(total).toBeCloseTo(
    values.reduce((sum, value) => sum + value),
    3,
  );
});

test('a step that is trained again replaces it and what followed', () => {
  const curve = curveOf([5, 4, 3, 2]);
  curve.add(3, 9);
  expect(curve.points()).toMatchObject({ steps: [1, 2, 3], mean: [5, 4, 9] });
  curve.add(1, 7);
  expect(curve.points()).toMatchObject({ steps: [1], mean: [7] });
});

test('a step within a coarse point that is trained again keeps the steps ascending', () => {
  const curve = curveOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 4);
  curve.add(6, 100);
  expect(curve.points().steps).toEqual([4, 6]);
  curve.add(7, 1);
  curve.add(9, 1);
  expect(curve.points().steps).toEqual([4, 7, 9]);
});

test('what is not a number is left out, and gaps stay gaps', () => {
  const curve = new Curve(4);
  curve.add(1, 1);
  curve.add(2, Number.NaN);
  curve.add(1000, 2);
  curve.add(1001, 3);
  expect(curve.points()).toMatchObject({ steps: [1, 1000, 1001], mean: [1, 2, 3] });
});
