import { square } from '../arithmetic.js';
import { type AdamWStep, type AdamWUpdate, zeroMoment } from '../kernels/adamw.js';
import type { KernelSet } from '../kernels/kernel-table.js';
import { cast } from '../transfer.js';
import {
  type CaseSizes,
  EXACT,
  kernelSubject,
  type NumericCase,
  positiveTensor,
  SUM,
  seededTensor,
  spreadTensor,
  type TestCase,
  testCase,
} from './numeric-case.js';

const STEP: AdamWStep = {
  gradientScale: 0.125,
  maxNorm: 0.5,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  learningRate: 1e-3,
  weightDecay: 0.01,
  step: 100,
};

/** AdamW keeps its state in float32, whatever the model's dtype. */
export function optimizerCases(sizes: CaseSizes): (NumericCase | TestCase)[] {
  const counts = sizes === 'small' ? [1, 2_053] : [1, 2_053, 3_000_001];
  const selfTest = counts.flatMap((count): NumericCase[] => [
    {
      name: `squareSum float32 [${count}]`,
      subject: kernelSubject('squareSum', 'float32'),
      tolerance: SUM.float32,
      compute: (kernels) => ({ squareSum: kernels.of('float32').squareSum(seededTensor([count], 64), 0.125) }),
    },
    ...[true, false].map(
      (hasFactors): NumericCase => ({
        name: `adamW float32 [${count}]${hasFactors ? ', rates of its own' : ''}`,
        subject: kernelSubject('adamW', 'float32'),
        // The moments are sums of two numbers, which may cancel.
        tolerance: SUM.float32,
        compute: (kernels) => {
          const state = {
            parameters: seededTensor([count], 65),
            first: seededTensor([count], 66),
            second: positiveTensor([count], 67),
            rateFactors: hasFactors ? positiveTensor([count], 68) : null,
          };
          const gradient = seededTensor([count], 69);
          // Given, so that this case is about the update alone.
          return { ...kernels.of('float32').adamW(state, gradient, positiveTensor([1], 70), STEP) };
        },
      }),
    ),
    {
      name: `adamW float32 [${count}], moments in 8 bits`,
      subject: kernelSubject('adamW', 'float32'),
      tolerance: SUM.float32,
      compute: (kernels) => {
        // Without clipping, whose factor may differ by a rounding: a number between two codes would get the other one.
        const step = { ...STEP, maxNorm: null };
        const squareSum = positiveTensor([1], 70);
        const begun = { parameters: seededTensor([count], 65), first: zeroMoment(count), second: zeroMoment(count) };
        const { adamW } = kernels.of('float32');
        const after = adamW({ ...begun, rateFactors: null }, seededTensor([count], 66), squareSum, step);
        // The second update depends on all that the first has made.
        const again = adamW({ ...after, rateFactors: null }, seededTensor([count], 69), squareSum, step);
        return { parameters: again.parameters };
      },
    },
  ]);
  return [...selfTest, ...updateTests(), ...momentTests(), ...squareSumTests()];
}

const TESTED_STEP: AdamWStep = {
  gradientScale: 1 / 47,
  maxNorm: null,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  learningRate: 3e-4,
  weightDecay: 0.1,
  step: 7,
};

function updateTests(): TestCase[] {
  const count = 40_003;
  const update = (changed: Partial<AdamWStep>, hasFactors: boolean) => (kernels: KernelSet) => {
    const { adamW, squareSum } = kernels.of('float32');
    const gradient = spreadTensor([count], 71, 3);
    const state = {
      parameters: spreadTensor([count], 72, 1),
      first: spreadTensor([count], 73, 0.01),
      second: square(spreadTensor([count], 74, 0.01)),
      rateFactors: hasFactors ? spreadTensor([count], 75, 1) : null,
    };
    const step = { ...TESTED_STEP, ...changed };
    return { ...adamW(state, gradient, squareSum(gradient, step.gradientScale), step) };
  };
  const exact = (name: string, changed: Partial<AdamWStep>, hasFactors: boolean) =>
    testCase(`adamW float32 [${count}], ${name}`, EXACT, update(changed, hasFactors));
  return [
    exact('no decay, one rate', { weightDecay: 0 }, false),
    exact('decay, one rate', {}, false),
    exact('no decay, rates of their own', { weightDecay: 0 }, true),
    exact('decay, rates of their own', {}, true),
    exact('a norm below the limit', { maxNorm: 1e6 }, false),
    // The factor is rounded once, where the raw ops round each of its steps.
    testCase(`adamW float32 [${count}], clipped`, { kind: 'largest', relative: 1e-6 }, update({ maxNorm: 0.5 }, false)),
  ];
}

/** Three updates of moments in 8 bits. */
function momentTests(): TestCase[] {
  const cases = [
    [1, false],
    [256, true],
    [40_003, false],
    [40_003, true],
  ] as const;
  return cases.map(([count, hasFactors]) => {
    const name = `adamW float32 [${count}], three steps of moments in 8 bits, ${hasFactors ? 'rates of their own' : 'one rate'}`;
    return testCase(name, EXACT, (kernels) => {
      const { adamW } = kernels.of('float32');
      const parameters = spreadTensor([count], 72, 1);
      let state: AdamWUpdate = { parameters, first: zeroMoment(count), second: zeroMoment(count) };
      const rateFactors = hasFactors ? spreadTensor([count], 75, 1) : null;
      for (let step = 1; step <= 3; step++) {
        const gradient = spreadTensor([count], 75 + step, 3 / step);
        const settings = { ...TESTED_STEP, maxNorm: null, step };
        state = adamW({ ...state, rateFactors }, gradient, spreadTensor([1], 79, 1), settings);
      }
      return { ...state, first: cast(state.first, 'int32'), second: cast(state.second, 'int32') };
    });
  });
}

function squareSumTests(): TestCase[] {
  return [1, 1023, 300_001].map((count) =>
    testCase(`squareSum float32 [${count}], numbers to 3`, { kind: 'largest', relative: 1e-6 }, (kernels) => ({
      squareSum: kernels.of('float32').squareSum(spreadTensor([count], 71, 3), 1 / 47),
    })),
  );
}
