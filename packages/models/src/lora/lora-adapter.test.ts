import type { PeftAdapter } from '@lorasmith/peft-files';
import {
  chooseKernels,
  fill,
  keep,
  liveTensorCount,
  scope,
  type Tensor,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../../test/numeric/greatest-difference.js';
import { normalNumbers } from '../../../../test/numeric/normal-numbers.js';
import { DenseLinear, type LinearGroup } from '../frozen-linear.js';
import type { DropoutSeed, ModelAdapter } from '../pass.js';
import { initialA, LoraAdapter, type LoraOptions, type LoraTarget } from './lora-adapter.js';

const kernels = chooseKernels('raw');

const [IN, TOKENS] = [6, 3];
const named = (...names: string[]): LoraTarget[] => names.map((name) => ({ name, rank: 2, scale: 3 }));
const OPTIONS: LoraOptions = { targets: named('q', 'v', 'down'), dropout: 0, seed: 5 };

/** A group of q, k and v with 4, 2 and 2 rows, a group of up with 3, and a group of down with 5. */
function makeGroups(): LinearGroup[] {
  const group = (modules: [string, number][], seed: number) => {
    const outFeatures = modules.reduce((sum, [, rows]) => sum + rows, 0);
    const weight = keep(tensorOf(normalNumbers(outFeatures * IN, seed), [outFeatures, IN]));
    const named = modules.map(([name, rows]) => ({ name, outFeatures: rows }));
    return { modules: named, linear: new DenseLinear(kernels, weight, null) };
  };
  return [
    group(
      [
        ['q', 4],
        ['k', 2],
        ['v', 2],
      ],
      1,
    ),
    group([['up', 3]], 2),
    group([['down', 5]], 3),
  ];
}

let groups: LinearGroup[];
beforeEach(() => {
  groups = makeGroups();
});
afterEach(() => {
  for (const { linear } of groups) linear.dispose();
});

const X = normalNumbers(TOKENS * IN, 9);
const outputsOf = (adapter: ModelAdapter | null = null, dropoutSeed: DropoutSeed | null = null) =>
  groups.map((group) =>
    scope(() => {
      const x = tensorOf(X, [TOKENS, IN]);
      const base = () => group.linear.forward(x);
      const acting = adapter?.at(group) ?? null;
      return toFloat32Array(acting === null ? base() : acting.forward(x, base, { record: false, dropoutSeed }).output);
    }),
  );

/** Sets random parameters, so that B is not zero. */
function setRandom(adapter: LoraAdapter, seed: number): Float32Array {
  const values = normalNumbers(adapter.parameterCount, seed);
  adapter.setParameters(tensorOf(Float32Array.from(values), [values.length]));
  return values;
}

describe('initially', () => {
  test('the outputs equal those of the base exactly', () => {
    const base = outputsOf();
    const adapter = new LoraAdapter(groups, OPTIONS);
    expect(groups.map((group) => adapter.at(group)?.trained ?? false)).toEqual([true, false, true]);
    expect(outputsOf(adapter)).toEqual(base);
    setRandom(adapter, 4);
    expect(outputsOf(adapter)).not.toEqual(base);
    adapter.dispose();
  });

  test('B is zero, and A does not depend on the other adapted layers', () => {
    const adapter = new LoraAdapter(groups, OPTIONS);
    const all = adapter.toPeft(null);
    adapter.dispose();
    const alone = new LoraAdapter(groups, { ...OPTIONS, targets: named('v') });
    const one = alone.toPeft(null);
    alone.dispose();
    for (const { b } of all.modules.values()) expect(b.every((value) => value === 0)).toBe(true);
    expect(all.modules.get('v')!.a).toEqual(one.modules.get('v')!.a);
    expect(all.modules.get('v')!.a).not.toEqual(all.modules.get('q')!.a);
    expect(all.modules.get('v')!.a.some((value) => value !== 0)).toBe(true);
  });

  test('the same seed gives the same parameters, another seed different ones', () => {
    const start = (seed: number) => {
      const adapter = new LoraAdapter(groups, { ...OPTIONS, seed });
      const values = toFloat32Array(adapter.parameters);
      adapter.dispose();
      return values;
    };
    expect(start(5)).toEqual(start(5));
    expect(start(6)).not.toEqual(start(5));
  });
});

test('a layer of 4096 × 4096 with r = 8 has 65,536 trainable parameters, for 16,777,216 frozen ones', () => {
  const weight = keep(scope(() => fill([4096, 4096], 0, 'bfloat16')));
  const group = { modules: [{ name: 'layer', outFeatures: 4096 }], linear: new DenseLinear(kernels, weight, null) };
  const adapter = new LoraAdapter([group], { targets: [{ name: 'layer', rank: 8, scale: 2 }], dropout: 0, seed: 0 });
  expect(weight.size).toBe(16_777_216);
  expect(adapter.parameterCount).toBe(65_536);
  expect((100 * (1 - adapter.parameterCount / weight.size)).toFixed(2)).toBe('99.61');
  adapter.dispose();
  weight.dispose();
});

test("the update is multiplied by each layer's own scale", () => {
  const base = outputsOf();
  /** The adapter's updates of q, k, v and down, for the same parameters. */
  const added = (scales: Record<string, number>) => {
    const targets = Object.entries(scales).map(([name, scale]) => ({ name, rank: 2, scale }));
    const adapter = new LoraAdapter(groups, { ...OPTIONS, targets });
    setRandom(adapter, 8);
    const outputs = outputsOf(adapter);
    adapter.dispose();
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

describe('the layout of PEFT', () => {
  test('each layer has its A [rank, in] and B [out, rank]', () => {
    const adapter = new LoraAdapter(groups, OPTIONS);
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
    adapter.dispose();
  });

  test('an adapter with these initial matrices is the same adapter', () => {
    const first = new LoraAdapter(groups, OPTIONS);
    const values = setRandom(first, 4);
    const outputs = outputsOf(first);
    const peft = first.toPeft(null);
    first.dispose();
    const second = new LoraAdapter(groups, { ...OPTIONS, initial: peft });
    expect(toFloat32Array(second.parameters)).toEqual(values);
    expect(second.toPeft(null)).toEqual(peft);
    expect(outputsOf(second)).toEqual(outputs);
    second.dispose();
  });

  test('layers keep different ranks and scales', () => {
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
    const adapter = new LoraAdapter(groups, { ...OPTIONS, targets, initial });
    expect(adapter.toPeft(null)).toEqual(initial);
    adapter.dispose();
    expect(() => new LoraAdapter(groups, { ...OPTIONS, initial })).toThrow('another rank or scale for q');
  });

  test('a gradient has the same layout; initially only B has a gradient', () => {
    const adapter = new LoraAdapter(groups, OPTIONS);
    for (const { linear, lora } of groups.flatMap((group) => {
      const lora = adapter.at(group);
      return lora === null ? [] : [{ linear: group.linear, lora }];
    })) {
      scope(() => {
        const x = tensorOf(X, [TOKENS, IN]);
        const { output, saved } = lora.forward(x, () => linear.forward(x), { record: true, dropoutSeed: null });
        const byOutput = tensorOf(normalNumbers(output.size, 2), output.shape);
        lora.backward(byOutput, () => linear.backwardInput(byOutput), saved!, false);
      });
    }
    const gradient = adapter.takeGradient();
    expect(gradient).toMatchObject({ shape: [adapter.parameterCount], dtype: 'float32' });
    for (const { a, b } of adapter.matricesOf(gradient).values()) {
      expect(a.every((value) => value === 0)).toBe(true);
      expect(b.every((value) => value !== 0)).toBe(true);
    }
    gradient.dispose();
    adapter.dispose();
  });
});

describe('dropout', () => {
  test('depends only on seed and pass, and differs between groups', () => {
    const adapter = new LoraAdapter(groups, { ...OPTIONS, dropout: 0.5 });
    setRandom(adapter, 4);
    const at = (seed: number, pass: number) => outputsOf(adapter, [seed, pass]);
    const first = at(3, 0);
    expect(at(3, 1)).not.toEqual(first);
    expect(at(4, 0)).not.toEqual(first);
    expect(at(3, 0)).toEqual(first);
    // Layers with the same weights in separate groups: their outputs can differ only by dropout.
    const linear = groups[2]!.linear;
    const same = ['one', 'other'].map((name) => ({ modules: [{ name, outFeatures: 5 }], linear }));
    const both = new LoraAdapter(same, { ...OPTIONS, targets: named('one', 'other'), dropout: 0.5 });
    const half = normalNumbers(both.parameterCount / 2, 6);
    both.setParameters(tensorOf(Float32Array.of(...half, ...half), [both.parameterCount]));
    const outputOf = (group: LinearGroup, dropoutSeed: DropoutSeed | null) =>
      scope(() => {
        const x = tensorOf(X, [TOKENS, IN]);
        return toFloat32Array(
          both.at(group)!.forward(x, () => linear.forward(x), { record: false, dropoutSeed }).output,
        );
      });
    expect(outputOf(same[0]!, null)).toEqual(outputOf(same[1]!, null));
    expect(outputOf(same[0]!, [3, 0])).not.toEqual(outputOf(same[1]!, [3, 0]));
    both.dispose();
    adapter.dispose();
  });

  test('takes seeds of 32 bits', () => {
    const adapter = new LoraAdapter(groups, { ...OPTIONS, dropout: 0.5, seed: 2 ** 32 - 1 });
    expect(outputsOf(adapter, [2 ** 32 - 1, 10_000_000 * 4096])).toHaveLength(3);
    adapter.dispose();
  });
});

test('dispose frees all tensors and leaves the base unchanged', () => {
  const base = outputsOf();
  const warm = new LoraAdapter(groups, OPTIONS); // creates the shared constants
  warm.dispose();
  const before = liveTensorCount();
  const adapter = new LoraAdapter(groups, OPTIONS);
  setRandom(adapter, 4);
  expect(liveTensorCount()).toBeGreaterThan(before);
  adapter.dispose();
  expect(liveTensorCount()).toBe(before);
  expect(outputsOf()).toEqual(base);
});

test('setParameters replaces the parameters and frees the old ones', () => {
  const adapter = new LoraAdapter(groups, OPTIONS);
  setRandom(adapter, 1);
  const before = liveTensorCount();
  const old: Tensor = adapter.parameters;
  setRandom(adapter, 2);
  expect(old.disposed).toBe(true);
  expect(liveTensorCount()).toBe(before);
  const wrong = tensorOf(new Float32Array(3), [3]);
  expect(() => adapter.setParameters(wrong)).toThrow('3 numbers given for 58 parameters');
  wrong.dispose();
  adapter.dispose();
});

test('reports targets that the model or the initial adapter lacks', () => {
  expect(() => new LoraAdapter(groups, { ...OPTIONS, targets: named('q', 'gate') })).toThrow('no layers gate');
  expect(() => new LoraAdapter(groups, { ...OPTIONS, targets: [] })).toThrow('no layer to adapt');
  const initial: PeftAdapter = { dropout: 0, modules: new Map(), baseModelNameOrPath: null };
  expect(() => new LoraAdapter(groups, { ...OPTIONS, initial })).toThrow('nothing for q');
});

test.each<[string, () => LoraOptions]>([
  ['a missing target', () => ({ ...OPTIONS, targets: named('q', 'nowhere') })],
  [
    'an initial adapter with too few numbers',
    () => {
      const adapter = new LoraAdapter(groups, OPTIONS);
      const initial = adapter.toPeft(null);
      adapter.dispose();
      const modules = [...initial.modules].map(
        ([name, one]) => [name, name === 'down' ? { ...one, b: one.b.subarray(1) } : one] as const,
      );
      return { ...OPTIONS, initial: { ...initial, modules: new Map(modules) } };
    },
  ],
])('%s leaves the model unchanged', (_, optionsOf) => {
  const options = optionsOf();
  const [before, handles] = [outputsOf(), liveTensorCount()];
  expect(() => new LoraAdapter(groups, options)).toThrow();
  expect(outputsOf()).toEqual(before);
  expect(liveTensorCount()).toBe(handles);
});

test('LoRA+: the factor of the learning rate is 1 for A and the ratio for B', () => {
  const targets = [
    { name: 'q', rank: 2, scale: 1 },
    { name: 'v', rank: 1, scale: 1 },
    { name: 'down', rank: 3, scale: 1 },
  ];
  const adapter = new LoraAdapter(groups, { ...OPTIONS, targets });
  const factors = adapter.learningRateFactors(16);
  const vector = tensorOf(factors, [factors.length]);
  for (const { a, b } of adapter.matricesOf(vector).values()) {
    expect(new Set(a)).toEqual(new Set([1]));
    expect(new Set(b)).toEqual(new Set([16]));
  }
  vector.dispose();
  adapter.dispose();
});

test('the initial A is uniform in ±1/√in', () => {
  const inFeatures = 256;
  const bound = 1 / Math.sqrt(inFeatures);
  const a = initialA(64, inFeatures, 7, 'model.layers.0.self_attn.q_proj');
  expect(a).toHaveLength(64 * inFeatures);
  expect(a.every((value) => value >= -bound && value < bound)).toBe(true);
  const mean = a.reduce((sum, value) => sum + value, 0) / a.length;
  const meanSquare = a.reduce((sum, value) => sum + value * value, 0) / a.length;
  // The two means have the standard deviations bound √(1/3/n) and bound² √(4/45/n); five of each are allowed.
  expect(Math.abs(mean)).toBeLessThan(5 * bound * Math.sqrt(1 / 3 / a.length));
  expect(Math.abs(meanSquare - bound ** 2 / 3)).toBeLessThan(5 * bound ** 2 * Math.sqrt(4 / 45 / a.length));
});

test('the initial A depends on the seed and on the name of the layer', () => {
  const first = initialA(4, 8, 42, 'a');
  expect(initialA(4, 8, 42, 'a')).toEqual(first);
  expect(initialA(4, 8, 43, 'a')).not.toEqual(first);
  expect(initialA(4, 8, 42, 'b')).not.toEqual(first);
});

test('adapters differ at the layers whose matrices differ by a bit', () => {
  const one = new LoraAdapter(groups, OPTIONS);
  const numbers = normalNumbers(one.parameterCount, 3);
  const withNumbers = (values: Float32Array, options = OPTIONS) => {
    const adapter = new LoraAdapter(groups, options);
    adapter.setParameters(tensorOf(values, [values.length]));
    return adapter;
  };
  one.setParameters(tensorOf(numbers, [numbers.length]));
  const turned = numbers.slice();
  new Uint32Array(turned.buffer)[turned.length - 1]! ^= 1;
  const others = [
    withNumbers(numbers),
    withNumbers(turned),
    withNumbers(numbers, { ...OPTIONS, targets: OPTIONS.targets.map((target) => ({ ...target, scale: 3.001 })) }),
    withNumbers(numbers.slice(0, 4 * IN + 2 * 6), { ...OPTIONS, targets: named('q', 'v') }),
  ];
  const together = ['q', 'k', 'v'];
  expect(others.map((other) => one.differingModules(other))).toEqual([[], ['down'], together, ['down']]);
  for (const adapter of [one, ...others]) adapter.dispose();
});
