import { describe, expect, it } from 'vitest';
import { FaultList } from './fault-list.js';
import { withRanks } from './targets.js';

const names = [0, 1].flatMap((index) =>
  ['self_attn.q_proj', 'self_attn.v_proj'].map((part) => `model.layers.${index}.${part}`),
);
const layers = names.map((name) => ({ name, in_features: 4, out_features: 4 }));
const LORA = { r: 8, alpha: 16, rank_pattern: {}, alpha_pattern: {}, use_rslora: false };

function ranked(lora: Partial<typeof LORA & { rank_pattern: object; alpha_pattern: object }>) {
  const faults = new FaultList();
  const targets = withRanks(layers, { ...LORA, ...lora }, faults);
  return { ranks: targets.map(({ rank }) => rank), scales: targets.map(({ scale }) => scale), faults: faults.listed };
}

describe('withRanks', () => {
  it('gives every layer the common rank and scale', () => {
    expect(ranked({})).toEqual({ ranks: [8, 8, 8, 8], scales: [2, 2, 2, 2], faults: [] });
  });

  it('takes the first key that matches from a dot on', () => {
    const { ranks, scales, faults } = ranked({
      rank_pattern: { '0.self_attn.q_proj': 2, q_proj: 4, '^model\\.layers\\.1\\..*_proj$': 16 },
      alpha_pattern: { 'layers\\.[0-9]+\\.self_attn\\.v_proj': 4 },
    });
    expect(ranks).toEqual([2, 8, 4, 16]);
    // Each module's own alpha over its own rank.
    expect(scales).toEqual([8, 0.5, 4, 0.25]);
    expect(faults).toEqual([]);
  });

  it('scales by the root of the own rank with rsLoRA', () => {
    const { scales } = ranked({ use_rslora: true, rank_pattern: { q_proj: 4 }, r: 16 });
    expect(scales).toEqual([8, 4, 8, 4]);
  });

  it('has a fault for each key that selects nothing', () => {
    const { faults } = ranked({ rank_pattern: { proj: 4, q_proj: 2, k_proj: 4 }, alpha_pattern: { '(?=q)': 1 } });
    expect(faults).toMatchObject([
      { code: 'unmatched_target', param: 'lora.rank_pattern.proj' },
      { code: 'unmatched_target', param: 'lora.rank_pattern.k_proj' },
      { code: 'invalid_job', param: 'lora.alpha_pattern.(?=q)' },
    ]);
  });

  it('does not compile a key that is too long', () => {
    const { faults } = ranked({ rank_pattern: { [`${'x'.repeat(600)}`]: 4 } });
    expect(faults).toMatchObject([{ code: 'invalid_job', param: `lora.rank_pattern.${'x'.repeat(100)}` }]);
  });

  it('has a fault for expressions that are too many or too large', () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`.*q_pro[j${i}]`, 4]));
    expect(ranked({ rank_pattern: many }).faults).toMatchObject([{ code: 'invalid_job', param: 'lora.rank_pattern' }]);
    const large = '(q_proj){1000}'.concat('|v_proj');
    expect(ranked({ alpha_pattern: { [large]: 4 } }).faults).toMatchObject([
      { code: 'invalid_job', message: expect.stringContaining('too large') },
    ]);
  });
});
