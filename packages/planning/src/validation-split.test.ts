import { describe, expect, it } from 'vitest';
import { heldOutRows } from './validation-split.js';

const held = (flags: Uint8Array) => flags.reduce((sum, flag) => sum + flag, 0);

describe('heldOutRows', () => {
  it('holds out the share, rounded up, drawn by the seed', () => {
    expect(held(heldOutRows(1000, 0.1, 42))).toBe(100);
    expect(held(heldOutRows(11, 0.1, 42))).toBe(2);
    expect(held(heldOutRows(2, 0.001, 42))).toBe(1);
    expect(held(heldOutRows(5, 0, 42))).toBe(0);
    expect(heldOutRows(1000, 0.1, 42)).toEqual(heldOutRows(1000, 0.1, 42));
    expect(heldOutRows(1000, 0.1, 42)).not.toEqual(heldOutRows(1000, 0.1, 43));
  });

  it('holds out the same rows in every release', () => {
    const rows = [...heldOutRows(20, 0.25, 42).entries()].filter(([, flag]) => flag === 1).map(([row]) => row);
    expect(rows).toEqual([1, 11, 14, 16, 17]);
  });

  it('refuses to leave nothing to train on', () => {
    for (const [rows, split] of [
      [1, 0.1],
      [3, 0.9],
    ] as const) {
      expect(() => heldOutRows(rows, split, 1)).toThrow(expect.objectContaining({ code: 'validation_split_empty' }));
    }
  });
});
