import { describe, expect, it } from 'vitest';
import { countSteps, warmupWarnings } from './count-steps.js';

const settings = { batch_size: 8, gradient_accumulation_steps: 1, epochs: 3, max_steps: null, warmup_ratio: 0.03 };

describe('countSteps', () => {
  it.each([
    [100, {}, { perEpoch: 13, total: 39, warmup: 2 }],
    [100, { gradient_accumulation_steps: 4 }, { perEpoch: 4, total: 12, warmup: 1 }],
    [100, { epochs: 0.5 }, { perEpoch: 13, total: 7, warmup: 1 }],
    [100, { epochs: 0.01 }, { perEpoch: 13, total: 1, warmup: 0 }],
    [100, { max_steps: 1, warmup_ratio: 1 }, { perEpoch: 13, total: 1, warmup: 0 }],
    [100, { max_steps: 2 }, { perEpoch: 13, total: 2, warmup: 1 }],
    [100, { max_steps: 5 }, { perEpoch: 13, total: 5, warmup: 1 }],
    [1, { max_steps: 50, warmup_ratio: 0 }, { perEpoch: 1, total: 50, warmup: 0 }],
    [8, { warmup_ratio: 1 }, { perEpoch: 1, total: 3, warmup: 3 }],
  ])('%i examples with %o', (examples, changes, expected) => {
    expect(countSteps(examples, { ...settings, ...changes })).toEqual(expected);
  });
});

describe('warmupWarnings', () => {
  it('says that the warm-up takes all steps, and then only', () => {
    const warned = (total: number, warmup: number) => warmupWarnings({ perEpoch: 13, total, warmup });
    expect(warned(3, 3)).toMatchObject([{ code: 'warmup_covers_all_steps', param: 'training.warmup_ratio' }]);
    expect(warned(3, 3)[0]!.message).toContain('all 3 steps');
    expect(warned(3, 2)).toEqual([]);
    expect(warned(1, 0)).toEqual([]);
  });
});
