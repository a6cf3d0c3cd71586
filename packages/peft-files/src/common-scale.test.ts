import { describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { commonForm, cutRank, manifestLora, padRank, withScale } from './common-scale.js';
import type { PeftAdapter, PeftModule } from './peft-adapter.js';

const [IN, OUT] = [5, 4];

function moduleOf(rank: number, scale: number, seed: number, outFeatures = OUT): PeftModule {
  const a = normalNumbers(rank * IN, seed);
  return { a, b: normalNumbers(outFeatures * rank, seed + 1), rank, scale, inFeatures: IN, outFeatures };
}

function adapterOf(modules: Record<string, PeftModule>): PeftAdapter {
  return { dropout: 0, modules: new Map(Object.entries(modules)), baseModelNameOrPath: null };
}

/** `scale · B A` as other readers compute it: products and sum in float32, then the scale. */
function update({ a, b, rank, outFeatures }: PeftModule, scale: number): number[] {
  return Array.from({ length: outFeatures * IN }, (_, index) => {
    let sum = 0;
    for (let k = 0; k < rank; k++) {
      const product = Math.fround(b[Math.floor(index / IN) * rank + k]! * a[k * IN + (index % IN)]!);
      sum = Math.fround(sum + product);
    }
    return Math.fround(sum * scale);
  });
}

describe('commonForm', () => {
  test('is exact, bit for bit, if the scales differ by powers of two', () => {
    const adapter = adapterOf({ q: moduleOf(8, 2, 1), k: moduleOf(4, 4, 2), v: moduleOf(2, 0.25, 3) });
    const { r, alpha, modules } = commonForm(adapter);
    expect({ r, alpha }).toEqual({ r: 8, alpha: 16 });
    for (const [name, module] of modules) {
      expect(module).toMatchObject({ rank: 8, scale: 2 });
      const before = adapter.modules.get(name)!;
      expect(update(module, alpha / r)).toEqual(update(before, before.scale));
    }
  });

  test('rounds B once, and only in modules whose factor is not a power of two', () => {
    const adapter = adapterOf({ q: moduleOf(8, 2, 1), k: moduleOf(8, 3, 2), v: moduleOf(8, 0.5, 3) });
    const { r, alpha, modules } = commonForm(adapter);
    expect(alpha / r).toBe(2);
    expect(modules.get('q')).toEqual(adapter.modules.get('q'));
    expect(modules.get('v')!.b).toEqual(adapter.modules.get('v')!.b.map((value) => value / 4));
    expect(modules.get('k')!.b).toEqual(adapter.modules.get('k')!.b.map((value) => Math.fround(value * 1.5)));
  });

  test('chooses the scale that keeps most numbers exact, not that of the largest rank', () => {
    const adapter = adapterOf({ q: moduleOf(8, 3, 1), k: moduleOf(4, 1, 2, 40), v: moduleOf(4, 2, 3) });
    const { r, alpha } = commonForm(adapter);
    expect({ r, scale: alpha / r }).toEqual({ r: 8, scale: 1 });
  });

  test('writes the requested alpha, although (alpha / r) · r is a different number', () => {
    expect((16 / 49) * 49).not.toBe(16);
    expect(commonForm(adapterOf({ q: moduleOf(49, 16 / 49, 1) }))).toMatchObject({ r: 49, alpha: 16 });
  });

  test('writes zeros for B if the scale is 0', () => {
    const { modules } = commonForm(adapterOf({ q: moduleOf(2, 0, 1), k: moduleOf(2, 2, 2) }));
    expect(modules.get('q')!.b.every((value) => value === 0)).toBe(true);
  });
});

test('the manifest allows reversing it', () => {
  const adapter = adapterOf({ q: moduleOf(8, 2, 1), k: moduleOf(4, 4, 2), v: moduleOf(2, 0.25, 3) });
  const common = commonForm(adapter);
  const lora = manifestLora(adapter, common);
  expect(lora).toEqual({
    r: 8,
    alpha: 16,
    modules: ['q', 'k', 'v'],
    rank_pattern: { k: 4, v: 2 },
    // k has alpha 16 like the others; only its rank differs.
    alpha_pattern: { v: 0.5 },
  });
  for (const [name, before] of adapter.modules) {
    const rank = lora.rank_pattern[name] ?? lora.r;
    const scale = (lora.alpha_pattern[name] ?? lora.alpha) / rank;
    expect(withScale(cutRank(common.modules.get(name)!, rank)!, scale)).toEqual(before);
  }
});

describe('cutRank', () => {
  test('removes only zeros', () => {
    const module = moduleOf(3, 1, 7);
    expect(cutRank(padRank(module, 5), 3)).toEqual(module);
    expect(cutRank(module, 3)).toBe(module);
    expect(cutRank(module, 2)).toBeNull();
    expect(cutRank(module, 4)).toBeNull();
  });
});
