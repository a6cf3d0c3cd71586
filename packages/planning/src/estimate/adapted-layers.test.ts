import { describe, expect, test } from 'vitest';
import { linearWork, lowestAdaptedBlock } from './adapted-layers.js';

const layer = (name: string) => ({ name, in_features: 2, out_features: 3 });
const modules = [layer('model.layers.0.mlp.up_proj'), layer('model.layers.1.mlp.up_proj'), layer('lm_head')];
const targetsAt = (...places: number[]) => places.map((place) => ({ ...modules[place]!, rank: 1, scale: 1 }));

describe('the work of linear layers', () => {
  const workOf = (place: number, isRecomputed: (layer: number) => boolean, onlyForward = false) =>
    linearWork(modules, targetsAt(place), { tokensOf: () => 1, readsLayer: () => false, isRecomputed, onlyForward });

  test.each([
    ['the first block', 0, 18],
    ['the second block', 1, 12],
    ['a layer outside the blocks, which comes after them', 2, 6],
  ])('has no gradient below an adapter in %s', (_, place, backward) => {
    const work = workOf(place, () => false);
    expect([work.forward, work.backward, work.again]).toEqual([18, backward, 0]);
    const forward = workOf(place, () => true, true);
    expect([forward.forward, forward.backward, forward.again]).toEqual([18, 0, 0]);
    expect(work.adapters).toBe(3 * forward.adapters);
  });

  test('has the forward products of those layers again that are computed again, and from the lowest adapted one on', () => {
    expect(workOf(0, (layer) => layer === 1).again).toBe(6);
    expect(workOf(1, (layer) => layer < 2).again).toBe(6);
    expect(workOf(0, (layer) => layer < 2).again).toBe(12);
  });
});

describe('the lowest adapted block', () => {
  test('is not block 0 for a layer outside the blocks', () => {
    expect(lowestAdaptedBlock(targetsAt(2))).toBe(Number.POSITIVE_INFINITY);
    expect(lowestAdaptedBlock(targetsAt(1, 2))).toBe(1);
  });

  test('is that of the first number in the name that PEFT reads as a block', () => {
    expect(lowestAdaptedBlock([layer('transformer.h.11.attn.c_attn')])).toBe(11);
  });
});
