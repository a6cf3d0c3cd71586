import { FrozenProjection, ProjectionSlot } from '@lorasmith/models';
import { dispose, fill, keep, liveTensorCount, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { LoraAdapter, type LoraOptions } from './lora-adapter.js';
import { type PeftAdapter, trueAlpha } from './peft-adapter.js';

const [IN, TOKENS] = [6, 3];
const OPTIONS: LoraOptions = { targets: ['q', 'v', 'down'], r: 2, alpha: 6, dropout: 0, seed: 5 };

/** q, k and v stacked on 4, 2 and 2 rows; down by itself with 5. */
function makeSlots(): ProjectionSlot[] {
  const slot = (modules: [string, number][], seed: number) => {
    const outFeatures = modules.reduce((sum, [, rows]) => sum + rows, 0);
    const weight = keep(tensorOf(normalNumbers(outFeatures * IN, seed), [outFeatures, IN]));
    const named = modules.map(([name, rows]) => ({ name, outFeatures: rows }));
    return new ProjectionSlot(named, IN, new FrozenProjection(weight, null));
  };
  return [
    slot(
      [
        ['q', 4],
        ['k', 2],
        ['v', 2],
      ],
      1,
    ),
    slot([['up', 3]], 2),
    slot([['down', 5]], 3),
  ];
}

let slots: ProjectionSlot[];
beforeEach(() => {
  slots = makeSlots();
});
afterEach(() => dispose(slots.map(({ frozen }) => frozen.weight)));

const X = normalNumbers(TOKENS * IN, 9);
const outputsOf = (record = false) =>
  slots.map(({ projection }) =>
    scope(() => toFloat32Array(projection.forward(tensorOf(X, [TOKENS, IN]), record).output)),
  );

/** Numbers other than the initial ones: B is not zero. */
function setRandom(adapter: LoraAdapter, seed: number): Float32Array {
  const values = normalNumbers(adapter.parameterCount, seed);
  adapter.setParameters(tensorOf(Float32Array.from(values), [values.length]));
  return values;
}

describe('at the start', () => {
  test('the model computes exactly as its base does', () => {
    const base = outputsOf();
    const adapter = new LoraAdapter(slots, OPTIONS);
    expect(slots.map(({ projection }) => projection.trained)).toEqual([true, false, true]);
    expect(outputsOf()).toEqual(base);
    setRandom(adapter, 4);
    expect(outputsOf()).not.toEqual(base);
    adapter.detach();
  });

  test('B is zero, and A does not depend on what else is adapted', () => {
    const adapter = new LoraAdapter(slots, OPTIONS);
    const all = adapter.toPeft(null);
    adapter.detach();
    const alone = new LoraAdapter(slots, { ...OPTIONS, targets: ['v'] });
    const one = alone.toPeft(null);
    alone.detach();
    for (const { b } of all.modules.values()) expect(b.every((value) => value === 0)).toBe(true);
    expect(all.modules.get('v')!.a).toEqual(one.modules.get('v')!.a);
    expect(all.modules.get('v')!.a).not.toEqual(all.modules.get('q')!.a);
    expect(all.modules.get('v')!.a.some((value) => value !== 0)).toBe(true);
  });

  test('the same seed gives the same numbers, another seed others', () => {
    const start = (seed: number) => {
      const adapter = new LoraAdapter(slots, { ...OPTIONS, seed });
      const values = toFloat32Array(adapter.parameters);
      adapter.detach();
      return values;
    };
    expect(start(5)).toEqual(start(5));
    expect(start(6)).not.toEqual(start(5));
  });
});

test('counts: a layer of 4096 × 4096 with r = 8 trains 65,536 of 16,777,216 numbers', () => {
  const weight = keep(scope(() => fill([4096, 4096], 0, 'bfloat16')));
  const slot = new ProjectionSlot([{ name: 'layer', outFeatures: 4096 }], 4096, new FrozenProjection(weight, null));
  const adapter = new LoraAdapter([slot], { targets: ['layer'], r: 8, alpha: 16, dropout: 0, seed: 0 });
  expect(weight.size).toBe(16_777_216);
  expect(adapter.parameterCount).toBe(65_536);
  expect((100 * (1 - adapter.parameterCount / weight.size)).toFixed(2)).toBe('99.61');
  adapter.detach();
  weight.dispose();
});

describe('the scale', () => {
  /** What the adapter adds to the output of `down`, for one set of numbers. */
  function added(settings: { r: number; alpha: number; use_rslora: boolean }): Float32Array {
    const base = outputsOf()[2]!;
    const adapter = new LoraAdapter(slots, {
      ...OPTIONS,
      targets: ['down'],
      r: settings.r,
      alpha: trueAlpha(settings),
    });
    setRandom(adapter, 8);
    const output = outputsOf()[2]!;
    adapter.detach();
    return output.map((value, i) => value - base[i]!);
  }

  test('is alpha / r', () => {
    const once = added({ r: 4, alpha: 4, use_rslora: false });
    const thrice = added({ r: 4, alpha: 12, use_rslora: false });
    expect(
      differenceByLargest(
        thrice,
        once.map((value) => 3 * value),
      ),
    ).toBeLessThan(1e-5);
  });

  test('with rsLoRA is alpha / √r', () => {
    const once = added({ r: 4, alpha: 4, use_rslora: false }); // scale 1
    const stabilised = added({ r: 4, alpha: 4, use_rslora: true }); // scale 2
    expect(
      differenceByLargest(
        stabilised,
        once.map((value) => 2 * value),
      ),
    ).toBeLessThan(1e-5);
  });
});

describe('as PEFT lays it out', () => {
  test('each layer has its A [rank, in] and B [out, rank]', () => {
    const adapter = new LoraAdapter(slots, OPTIONS);
    const values = setRandom(adapter, 4);
    const peft = adapter.toPeft('base');
    expect(peft).toMatchObject({ r: 2, alpha: 6, dropout: 0, baseModelNameOrPath: 'base' });
    expect(adapter.modules).toEqual(['q', 'v', 'down']);
    // The vector: A of q and v, their B, then A and B of down.
    expect(peft.modules.get('q')).toEqual({
      a: values.slice(0, 12),
      b: values.slice(24, 32),
      rank: 2,
      inFeatures: IN,
      outFeatures: 4,
    });
    expect(peft.modules.get('v')).toMatchObject({ a: values.slice(12, 24), b: values.slice(32, 36), outFeatures: 2 });
    expect(peft.modules.get('down')).toMatchObject({ a: values.slice(36, 48), b: values.slice(48, 58) });
    expect(adapter.parameterCount).toBe(58);
    adapter.detach();
  });

  test('an adapter begun from those matrices is the same adapter', () => {
    const first = new LoraAdapter(slots, OPTIONS);
    const values = setRandom(first, 4);
    const outputs = outputsOf();
    const peft = first.toPeft(null);
    first.detach();
    const second = new LoraAdapter(slots, { ...OPTIONS, r: 99, alpha: 1, initial: peft });
    expect(toFloat32Array(second.parameters)).toEqual(values);
    expect(second.toPeft(null)).toEqual(peft);
    expect(outputsOf()).toEqual(outputs);
    second.detach();
  });

  test('layers of unlike rank keep their ranks', () => {
    const module = (rank: number, outFeatures: number, seed: number) => {
      const a = normalNumbers(rank * IN, seed);
      return { a, b: normalNumbers(outFeatures * rank, seed + 1), rank, inFeatures: IN, outFeatures };
    };
    const initial: PeftAdapter = {
      r: 3,
      alpha: 3,
      dropout: 0,
      baseModelNameOrPath: null,
      modules: new Map([
        ['q', module(3, 4, 1)],
        ['v', module(1, 2, 3)],
        ['down', module(2, 5, 5)],
      ]),
    };
    const adapter = new LoraAdapter(slots, { ...OPTIONS, initial });
    expect(adapter.toPeft(null)).toEqual(initial);
    adapter.detach();
  });

  test('a gradient has the same layout: it is B alone that learns at first', () => {
    const adapter = new LoraAdapter(slots, OPTIONS);
    for (const { projection } of slots.filter((slot) => slot.projection.trained)) {
      scope(() => {
        const { output, saved } = projection.forward(tensorOf(X, [TOKENS, IN]), true);
        projection.backward(tensorOf(normalNumbers(output.size, 2), output.shape), saved, false);
      });
    }
    const gradient = adapter.takeGradient();
    expect(gradient).toMatchObject({ shape: [adapter.parameterCount], dtype: 'float32' });
    for (const { a, b } of adapter.matricesOf(gradient).values()) {
      expect(a.every((value) => value === 0)).toBe(true);
      expect(b.every((value) => value !== 0)).toBe(true);
    }
    gradient.dispose();
    adapter.detach();
  });
});

describe('dropout', () => {
  test('depends on seed and pass alone, and is another at each place', () => {
    const adapter = new LoraAdapter(slots, { ...OPTIONS, dropout: 0.5 });
    setRandom(adapter, 4);
    const at = (seed: number, pass: number) => {
      adapter.seedDropout(seed, pass);
      return outputsOf(true);
    };
    const first = at(3, 0);
    expect(at(3, 1)).not.toEqual(first);
    expect(at(4, 0)).not.toEqual(first);
    expect(at(3, 0)).toEqual(first);
    const seeds = new Set(
      slots
        .map((slot) => slot.projection as { dropoutSeed?: readonly number[] })
        .flatMap(({ dropoutSeed }) => (dropoutSeed === undefined ? [] : [dropoutSeed.join()])),
    );
    expect(seeds.size).toBe(2);
    adapter.detach();
  });

  test('takes seeds of 32 bits', () => {
    const adapter = new LoraAdapter(slots, { ...OPTIONS, dropout: 0.5, seed: 2 ** 32 - 1 });
    adapter.seedDropout(2 ** 32 - 1, 10_000_000 * 4096);
    expect(outputsOf(true)).toHaveLength(3);
    adapter.detach();
  });
});

test('detach gives the base back and frees everything', () => {
  const base = outputsOf();
  const warm = new LoraAdapter(slots, OPTIONS); // makes the constants it needs
  warm.detach();
  const before = liveTensorCount();
  const adapter = new LoraAdapter(slots, OPTIONS);
  setRandom(adapter, 4);
  expect(liveTensorCount()).toBeGreaterThan(before);
  adapter.detach();
  expect(liveTensorCount()).toBe(before);
  for (const slot of slots) expect(slot.projection).toBe(slot.frozen);
  expect(outputsOf()).toEqual(base);
});

test('new parameters replace the old ones, which are freed', () => {
  const adapter = new LoraAdapter(slots, OPTIONS);
  setRandom(adapter, 1);
  const before = liveTensorCount();
  const old: Tensor = adapter.parameters;
  setRandom(adapter, 2);
  expect(old.disposed).toBe(true);
  expect(liveTensorCount()).toBe(before);
  const wrong = tensorOf(new Float32Array(3), [3]);
  expect(() => adapter.setParameters(wrong)).toThrow('3 numbers given for 58 parameters');
  wrong.dispose();
  adapter.detach();
});

test('targets that are not there, or not in the adapter to begin from', () => {
  expect(() => new LoraAdapter(slots, { ...OPTIONS, targets: ['q', 'gate'] })).toThrow('no layers gate');
  expect(() => new LoraAdapter(slots, { ...OPTIONS, targets: [] })).toThrow('no layer to adapt');
  const initial: PeftAdapter = { r: 2, alpha: 2, dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  expect(() => new LoraAdapter(slots, { ...OPTIONS, initial })).toThrow('nothing for q');
});
