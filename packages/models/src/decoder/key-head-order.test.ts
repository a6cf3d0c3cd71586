import { scope, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { expect, test } from 'vitest';
import { KeyHeadOrder } from './gated-delta-net.js';

const order = new KeyHeadOrder({
  ...{ kind: 'linear', convolutionTaps: 4 },
  ...{ keyHeadCount: 2, keyHeadDim: 3, valueHeadCount: 4, valueHeadDim: 1 },
});
const WIDTH = 28;
/** Numbers of two tokens. */
const counted = Float32Array.from({ length: 2 * WIDTH }, (_, i) => i);
const ordered = (values: Float32Array, how: 'byKind' | 'byKeyHead') =>
  scope(() => toFloat32Array(order[how](tensorOf(Float32Array.from(values), [2, WIDTH]))));

test('queries, keys, values, gates, β and decays of all key heads come one after the other', () => {
  const expected = [
    ...[0, 1, 2, 10, 11, 12],
    ...[3, 4, 5, 13, 14, 15],
    ...[6, 7, 16, 17],
    ...[8, 9, 18, 19],
    ...[20, 21, 24, 25],
    ...[22, 23, 26, 27],
  ];
  expect([...ordered(counted, 'byKind')]).toEqual([...expected, ...expected.map((i) => WIDTH + i)]);
});

test('the order of the files comes back', () => {
  expect(ordered(ordered(counted, 'byKind'), 'byKeyHead')).toEqual(counted);
});
