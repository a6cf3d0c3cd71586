import { describe, expect, test } from 'vitest';
import { linearWork, lowestAdaptedBlock } from './adapted-layers.js';

const layer = (name: string) => ({ name, in_features: 2, out_features: 3 });
const modules = [layer('model.layers.0.mlp.up_proj'), layer('model.layers.1.mlp.up_proj'), layer('lm_head')];
const targetsAt = (...places: number[]) => places.map((place) => ({ ...modules[place]!, rank: 1, scale: 1 }));

describe('the work of linear layers', () => {
  test.each([
    ['the first block', 0, 18],
    ['the second block', 1, 12],
    ['a layer outside the blocks, which comes after them', 2, 6],
  ])('has no gradient below an adapter in %s', (_, place, backward) => {
    const work = linearWork(modules, targetsAt(place), { tokensOf: () => 1, readsLayer: () => false });
    expect([work.forward, work.backward]).toEqual([18, backward]);
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
