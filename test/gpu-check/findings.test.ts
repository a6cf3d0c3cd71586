import { expect, test } from 'vitest';

// The specifier is computed because the file is JavaScript without declarations.
const { findingsOf, kernelFindings } = await import(new URL('../checks/gpu-check/findings.mjs', import.meta.url).href);

const end = (result: unknown, ending = 'done') => ({ ending, how: '', seconds: 1, result, log: '' });
const size = (rows: number, length: number, tokensPerSecond: number) => ({
  ...{ kind: 'rows', rows, length, jobs: 1, tokens_per_second: tokensPerSecond },
  seconds_per_step: (rows * length) / tokensPerSecond,
  estimate: { seconds_per_step: (rows * length) / 10_000 },
});

const KERNELS = ['AddFloat32', 'CastBoolToBool', 'ScaledFewRows8', 'NewFloat32'].map((name) => ({ module: 'm', name }));
const RUN = new Map<string, unknown>([
  ['card', end({ kernels: KERNELS, card: { name: 'NVIDIA H100' } })],
  ['self-test', end({})],
  ['types', end({})],
]);

test('a kernel without a launch has a reason, or is a finding', () => {
  const launches = { AddFloat32: 4 };
  const emulated = kernelFindings({ isEmulated: true, done: RUN, launches });
  expect(emulated).toMatchObject({ all: 4, launched: 1, unknown: ['NewFloat32'] });
  expect(emulated.known.map(({ names }: { names: string[] }) => names)).toEqual([
    ['CastBoolToBool'],
    ['ScaledFewRows8'],
  ]);
  // The full self-test launches it.
  const real = kernelFindings({ isEmulated: false, done: RUN, launches });
  expect(real.unknown).toEqual(['NewFloat32', 'ScaledFewRows8']);
});

test('nothing is said of kernels without the parts that launch most of them', () => {
  for (const name of RUN.keys()) {
    const done = new Map(RUN);
    done.delete(name);
    expect(kernelFindings({ isEmulated: false, done, launches: {} })).toBeNull();
  }
  const done = new Map(RUN).set('self-test', end(null, 'out of time'));
  expect(kernelFindings({ isEmulated: false, done, launches: {} })).toBeNull();
});

test('the speed that the sentence names is that of the largest model at 4 × 2048', () => {
  const done = new Map(RUN)
    .set('speed-8B', end({ sizes: [size(4, 512, 9000), size(4, 2048, 13_000), { ...size(1, 8192, 1), error: 'x' }] }))
    .set('speed-1B', end({ sizes: [size(4, 2048, 60_000)] }))
    .set('unlike-lengths', end({ per_step: { partialTrims: 0.25, trims: 0.25, waits: 2 } }));
  const findings = findingsOf({
    ...{ isEmulated: false, report: 'report.md', parts: [], done, launches: {} },
    selfTest: { done: true, trusted: false, avoided: ['b'], cases: [{ name: 'a sum', fault: 'differs' }] },
  });
  expect(findings.speeds).toHaveLength(3);
  expect(findings.speeds.at(-1)).toMatchObject({ model: '8B', size: '4 × 2048', tokensPerSecond: 13_000 });
  expect(findings.speeds.at(-1).expected).toBeCloseTo(10_000);
  expect(findings).toMatchObject({ card: 'NVIDIA H100', trims: 0.5 });
  expect(findings.selfTest).toMatchObject({ trusted: false, avoided: ['b'], wrong: ['a sum'] });
});
