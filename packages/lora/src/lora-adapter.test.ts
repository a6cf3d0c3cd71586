import { FrozenProjection, ProjectionSlot } from '@lorasmith/models';
import { dispose, fill, keep, liveTensorCount, scope, type Tensor, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { LoraAdapter, type LoraOptions, type LoraTarget } from './lora-adapter.js';
import type { PeftAdapter } from './peft-adapter.js';

const [IN, TOKENS] = [6, 3];
const named = (...names: string[]): LoraTarget[] => names.map((name) => ({ name, rank: 2, scale: 3 }));
const OPTIONS: LoraOptions = { targets: named('q', 'v', 'down'), dropout: 0, seed: 5 };

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
    const alone = new LoraAdapter(slots, { ...OPTIONS, targets: named('v') });
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
  const adapter = new LoraAdapter([slot], { targets: [{ name: 'layer', rank: 8, scale: 2 }], dropout: 0, seed: 0 });
  expect(weight.size).toBe(16_777_216);
  expect(adapter.parameterCount).toBe(65_536);
  expect((100 * (1 - adapter.parameterCount / weight.size)).toFixed(2)).toBe('99.61');
  adapter.detach();
  weight.dispose();
});

test("the update is multiplied with each layer's own scale", () => {
  const base = outputsOf();
  /** What the adapter adds to q, k, v and down, for one set of numbers. */
  const added = (scales: Record<string, number>) => {
    const targets = Object.entries(scales).map(([name, scale]) => ({ name, rank: 2, scale }));
    const adapter = new LoraAdapter(slots, { ...OPTIONS, targets });
    setRandom(adapter, 8);
    const outputs = outputsOf();
    adapter.detach();
    return outputs.map((output, i) => output.map((value, j) => value - base[i]![j]!));
  };
  const once = added({ q: 1, v: 1, down: 1 });
  const scaled = added({ q: 3, v: 0.5, down: 2 });
  const factor = (column: number) => [3, 3, 3, 3, 1, 1, 0.5, 0.5][column]!; // rows of q, k and v
  expect(
    differenceByLargest(
      scaled[0]!,
      once[0]!.map((value, i) => value * factor(i % 8)),
    ),
  ).toBeLessThan(1e-5);
  expect(
    differenceByLargest(
      scaled[2]!,
      once[2]!.map((value) => value * 2),
    ),
  ).toBeLessThan(1e-5);
});

describe('as PEFT lays it out', () => {
  test('each layer has its A [rank, in] and B [out, rank]', () => {
    const adapter = new LoraAdapter(slots, OPTIONS);
    const values = setRandom(adapter, 4);
    const peft = adapter.toPeft('base');
    expect(peft).toMatchObject({ dropout: 0, baseModelNameOrPath: 'base' });
    expect(adapter.modules).toEqual(['q', 'v', 'down']);
    // The vector: A of q and v, their B, then A and B of down.
    expect(peft.modules.get('q')).toEqual({
      a: values.slice(0, 12),
      b: values.slice(24, 32),
      rank: 2,
      scale: 3,
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
    const second = new LoraAdapter(slots, { ...OPTIONS, initial: peft });
    expect(toFloat32Array(second.parameters)).toEqual(values);
    expect(second.toPeft(null)).toEqual(peft);
    expect(outputsOf()).toEqual(outputs);
    second.detach();
  });

  test('layers of unlike rank and scale keep them', () => {
    const module = (rank: number, outFeatures: number, seed: number) => {
      const a = normalNumbers(rank * IN, seed);
      const b = normalNumbers(outFeatures * rank, seed + 1);
      return { a, b, rank, scale: 6 / rank, inFeatures: IN, outFeatures };
    };
    const initial: PeftAdapter = {
      dropout: 0,
      baseModelNameOrPath: null,
      modules: new Map([
        ['q', module(3, 4, 1)],
        ['v', module(1, 2, 3)],
        ['down', module(2, 5, 5)],
      ]),
    };
    const targets = [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale }));
    const adapter = new LoraAdapter(slots, { ...OPTIONS, targets, initial });
    expect(adapter.toPeft(null)).toEqual(initial);
    adapter.detach();
    expect(() => new LoraAdapter(slots, { ...OPTIONS, initial })).toThrow('another rank or scale for q');
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
  expect(() => new LoraAdapter(slots, { ...OPTIONS, targets: named('q', 'gate') })).toThrow('no layers gate');
  expect(() => new LoraAdapter(slots, { ...OPTIONS, targets: [] })).toThrow('no layer to adapt');
  const initial: PeftAdapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  expect(() => new LoraAdapter(slots, { ...OPTIONS, initial })).toThrow('nothing for q');
});

test.each<[string, () => LoraOptions]>([
  ['a target that is not there', () => ({ ...OPTIONS, targets: named('q', 'nowhere') })],
  [
    'an initial adapter with too few numbers, seen only when they are put in place',
    () => {
      const adapter = new LoraAdapter(slots, OPTIONS);
      const initial = adapter.toPeft(null);
      adapter.detach();
      const modules = [...initial.modules].map(
        ([name, one]) => [name, name === 'down' ? { ...one, b: one.b.subarray(1) } : one] as const,
      );
      return { ...OPTIONS, initial: { ...initial, modules: new Map(modules) } };
    },
  ],
])('%s leaves the model as it was', (_, optionsOf) => {
  const options = optionsOf();
  const [before, handles] = [outputsOf(), liveTensorCount()];
  expect(() => new LoraAdapter(slots, options)).toThrow();
  for (const { projection, frozen } of slots) expect(projection).toBe(frozen);
  expect(outputsOf()).toEqual(before);
  expect(liveTensorCount()).toBe(handles);
});

test('LoRA+: what multiplies the learning rate is 1 where the vector holds A, and the ratio where it holds B', () => {
  const targets = [
    { name: 'q', rank: 2, scale: 1 },
    { name: 'v', rank: 1, scale: 1 },
    { name: 'down', rank: 3, scale: 1 },
  ];
  const adapter = new LoraAdapter(slots, { ...OPTIONS, targets });
  const factors = adapter.learningRateFactors(16);
  const vector = tensorOf(factors, [factors.length]);
  for (const { a, b } of adapter.matricesOf(vector).values()) {
    expect(new Set(a)).toEqual(new Set([1]));
    expect(new Set(b)).toEqual(new Set([16]));
  }
  vector.dispose();
  adapter.detach();
});
