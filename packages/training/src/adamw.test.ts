import {
  bytesOfMoment,
  chooseKernels,
  dispose,
  liveTensorCount,
  momentOfBytes,
  scope,
  tensorOf,
  toFloat32Array,
} from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../test/numeric/greatest-difference.js';
import { ADAMW_DEFAULTS, AdamW } from './adamw.js';

const kernels = chooseKernels('raw');

const START = [1, -2, 0.5, 0, 3];
const LEARNING_RATES = [0.01, 0.02, 0.02, 0.005];
/** Growing, changing its sign, tiny, zero, and jumping. */
const gradientAt = (step: number) => [0.1 * (step + 1), -1 + 0.5 * step, 1e-4, 0, (-1) ** step * 2];

// torch 2.9.1: torch.optim.AdamW([p], weight_decay=…) on these gradients and rates, p after each step.
const AFTER_EACH_STEP: Record<string, number[][]> = {
  '0': [
    [0.9900000095367432, -1.9900000095367432, 0.49000099301338196, 0.0, 2.990000009536743],
    [0.9706963896751404, -1.9713563919067383, 0.4700029790401459, 0.0, 2.9910526275634766],
    [0.9515363574028015, -1.9569448232650757, 0.4500049948692322, 0.0, 2.9843368530273438],
    [0.9467343091964722, -1.9554389715194702, 0.44500550627708435, 0.0, 2.984600067138672],
  ],
  '0.1': [
    [0.9890000224113464, -1.9880000352859497, 0.4895009994506836, 0.0, 2.986999988555908],
    [0.9677184224128723, -1.9653804302215576, 0.4685240089893341, 0.0, 2.982078790664673],
    [0.9466229677200317, -1.947038173675537, 0.4475889801979065, 0.0, 2.9693989753723145],
    [0.941347599029541, -1.9445587396621704, 0.4423656761646271, 0.0, 2.968177318572998],
  ],
};
const MOMENTS = {
  first: [0.09048999845981598, -0.06340000033378601, 3.4389999200357124e-5, 0, -0.03619999811053276],
  second: [0.0002998001000378281, 0.0014965033624321222, 3.9940040857944226e-11, 0, 0.015976017341017723],
};

const vector = (values: number[]) => tensorOf(Float32Array.from(values), [values.length]);

/** Steps `from` … `to` - 1; gives the parameters after each. */
function run(optimizer: AdamW, start: number[], from: number, to: number): number[][] {
  const after: number[][] = [];
  let parameters = vector(start);
  for (let step = from; step < to; step++) {
    const gradient = vector(gradientAt(step));
    const settings = { learningRate: LEARNING_RATES[step]!, gradientScale: 1, maxNorm: null };
    const updated = optimizer.adopt(optimizer.compute(parameters, gradient, settings));
    parameters.dispose();
    gradient.dispose();
    parameters = updated;
    after.push([...toFloat32Array(parameters)]);
  }
  parameters.dispose();
  return after;
}

describe.each([0, 0.1])('with weight decay %d', (weightDecay) => {
  const expected = AFTER_EACH_STEP[String(weightDecay)]!;

  test("takes PyTorch's steps, the learning rate changing", () => {
    const optimizer = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay });
    expect(greatestDifference(run(optimizer, START, 0, 4).flat(), expected.flat())).toBeLessThan(1e-6);
    expect(optimizer.step).toBe(4);
    const { first, second } = optimizer.moments;
    for (const [tensor, moments] of [[first, MOMENTS.first] as const, [second, MOMENTS.second] as const]) {
      const ratios = [...toFloat32Array(tensor)].map((value, i) =>
        moments[i] === 0 ? 1 + value : value / moments[i]!,
      );
      expect(greatestDifference(ratios, [1, 1, 1, 1, 1])).toBeLessThan(1e-5);
    }
    optimizer.dispose();
  });

  test('restored from its moments continues as if it had not stopped', () => {
    const first = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay });
    const [, half] = run(first, START, 0, 2);
    const second = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay });
    second.restore(2, {
      first: vector([...toFloat32Array(first.moments.first)]),
      second: vector([...toFloat32Array(first.moments.second)]),
    });
    expect(run(second, half!, 2, 4)).toEqual(run(first, half!, 2, 4));
    first.dispose();
    second.dispose();
  });
});

test('an update with settings of its own is that of an optimizer that has them', () => {
  const own = { beta1: 0.8, beta2: 0.95, epsilon: 1e-12, weightDecay: 0.3 };
  const update = { learningRate: 0.1, gradientScale: 1, maxNorm: null };
  const after = (settings: typeof own, changes: Partial<typeof own>) => {
    const optimizer = new AdamW(kernels, 5, settings);
    const parameters = scope(() => [
      ...toFloat32Array(
        optimizer.adopt(optimizer.compute(vector(START), vector([1, -2, 3, 0, 0.5]), { ...update, ...changes })),
      ),
    ]);
    optimizer.dispose();
    return parameters;
  };
  const changed = after({ ...ADAMW_DEFAULTS, weightDecay: 0 }, own);
  expect(changed).toEqual(after(own, {}));
  expect(changed).not.toEqual(after({ ...ADAMW_DEFAULTS, weightDecay: 0 }, {}));
});

describe('moments in 8 bits', () => {
  const COUNT = 5000;
  const STEPS = 5;
  const wide = (of: (i: number) => number) =>
    tensorOf(
      Float32Array.from({ length: COUNT }, (_, i) => of(i)),
      [COUNT],
    );
  /** Numbers of several magnitudes in each block. */
  const gradientOf = (step: number, magnitudes: number) =>
    wide((i) => Math.sin(i * 0.37 + step) * 10 ** ((i % magnitudes) - (magnitudes + 1) / 2));

  function trained(momentBits: 8 | 32, magnitudes: number, restoreAt?: number): Float32Array {
    const settings = { ...ADAMW_DEFAULTS, momentBits, weightDecay: 0.1 };
    let optimizer = new AdamW(kernels, COUNT, settings);
    let parameters = wide(Math.cos);
    for (let step = 0; step < STEPS; step++) {
      if (step === restoreAt) {
        const { first, second } = optimizer.moments;
        const restored = new AdamW(kernels, COUNT, settings);
        restored.restore(step, {
          first: momentOfBytes(bytesOfMoment(first)),
          second: momentOfBytes(bytesOfMoment(second)),
        });
        optimizer.dispose();
        optimizer = restored;
      }
      const gradient = gradientOf(step, magnitudes);
      const update = { learningRate: 0.01, gradientScale: 1, maxNorm: null };
      const updated = optimizer.adopt(optimizer.compute(parameters, gradient, update));
      dispose([parameters, gradient]);
      parameters = updated;
    }
    const result = toFloat32Array(parameters);
    dispose(parameters);
    optimizer.dispose();
    return result;
  }
  const meanDifference = (a: Float32Array, b: Float32Array) =>
    a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;

  // PyTorch 2.15 with the rule of this file's kernel and the tables of bitsandbytes 0.50.2: every 417th parameter.
  test.each([
    [
      7,
      [
        0.9875675439834595, -0.6336190700531006, -0.10260839015245438, 0.8236061334609985, -0.9904688596725464,
        0.5395503044128418, 0.2658224105834961, -0.8814588785171509, 0.9399145245552063, -0.36789268255233765,
        -0.4091758131980896, 0.9433786869049072,
      ],
    ],
    [
      3,
      [
        0.9683310985565186, -0.6335881352424622, -0.12661339342594147, 0.823601245880127, -1.0010594129562378,
        0.5395739078521729, 0.2651626169681549, -0.8935680389404297, 0.9399273991584778, -0.3942091464996338,
        -0.4090031385421753, 0.9239523410797119,
      ],
    ],
  ])('take the steps of the reference, gradients of %i magnitudes', (magnitudes, expected) => {
    const parameters = trained(8, magnitudes);
    expect(
      greatestDifference(
        expected.map((_, i) => parameters[i * 417]!),
        expected,
      ),
    ).toBeLessThan(2e-6);
  });

  test('stay near the steps in float32, nearer than those of bitsandbytes', () => {
    // bitsandbytes 0.50.2 on a processor: 3.2e-4 and 9.0e-3.
    expect(meanDifference(trained(8, 3), trained(32, 3))).toBeLessThan(2.1e-4);
    expect(meanDifference(trained(8, 7), trained(32, 7))).toBeLessThan(7.1e-3);
  });

  test('restored, the steps are the same bits', () => {
    expect(trained(8, 3, 2)).toEqual(trained(8, 3));
  });
});

test('a parameter without a gradient stays where it is', () => {
  const optimizer = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay: 0 });
  for (const after of run(optimizer, [1, 1, 1, 7, 1], 0, 4)) expect(after[3]).toBe(7);
  optimizer.dispose();
});

test('handles are flat from step to step, and none is left', () => {
  const warm = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay: 0.1 });
  run(warm, START, 0, 1); // makes the constants it needs
  warm.dispose();
  const before = liveTensorCount();
  const optimizer = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay: 0.1 });
  run(optimizer, START, 0, 1);
  const afterOne = liveTensorCount();
  run(optimizer, START, 1, 4);
  expect(liveTensorCount()).toBe(afterOne);
  optimizer.dispose();
  expect(liveTensorCount()).toBe(before);
});

test('an update that is computed and not adopted changes nothing', () => {
  const optimizer = new AdamW(kernels, 5, { ...ADAMW_DEFAULTS, weightDecay: 0.1 });
  run(optimizer, START, 0, 2);
  const [parameters, gradient] = [vector(START), vector(gradientAt(2))];
  const before = [...toFloat32Array(optimizer.moments.first), ...toFloat32Array(optimizer.moments.second)];
  const compute = () => optimizer.compute(parameters, gradient, { learningRate: 0.01, gradientScale: 0.5, maxNorm: 1 });
  dispose(compute()); // makes the constants it needs
  const handles = liveTensorCount();
  dispose(compute());
  expect(liveTensorCount()).toBe(handles);
  expect(optimizer.step).toBe(2);
  expect([...toFloat32Array(optimizer.moments.first), ...toFloat32Array(optimizer.moments.second)]).toEqual(before);
  expect([...toFloat32Array(parameters)]).toEqual(START);
  dispose([parameters, gradient]);
  optimizer.dispose();
});
