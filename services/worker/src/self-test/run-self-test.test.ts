import { fileURLToPath } from 'node:url';
import { afterEach, expect, test, vi } from 'vitest';
import { SelfTestError } from './compute-part.js';
import { runSelfTest, SELF_TEST_LIMITS, type SelfTestLimits, TestLimit } from './run-self-test.js';

// A fixture answers in the place of the engine's processes. services/worker/test/self-test.test.ts has the engine.

const PROGRAM = fileURLToPath(new URL('../../test/fixtures/self-test.mjs', import.meta.url));
type Faults = Record<string, string>;

const testEngine = (faults: { card?: Faults; cpu?: Faults }, limits: Partial<SelfTestLimits> = {}) =>
  runSelfTest({
    program: PROGRAM,
    environments: {
      card: { PATH: process.env.PATH, FAULTS: JSON.stringify(faults.card ?? {}) },
      cpu: { PATH: process.env.PATH, FAULTS: JSON.stringify(faults.cpu ?? {}) },
    },
    limits: { ...SELF_TEST_LIMITS, ...limits },
  });
const withoutResult = async (...of: Parameters<typeof testEngine>) => {
  const error = await testEngine(...of).then(
    () => expect.fail('there was a result'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SelfTestError);
  return (error as SelfTestError).message;
};
/** Cases with these faults on the card, by kernels. */
const onCard = (names: string[], fault: string, kernels = 'fused') =>
  Object.fromEntries(names.map((name) => [`${name}, ${kernels}`, fault]));
const useFakeTime = () => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
afterEach(() => void vi.useRealTimers());
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `k${i}`);

test('an engine without a fault is trusted with all kernels', async () => {
  expect(await testEngine({})).toMatchObject({
    cases: 24,
    kernels: 'fused',
    avoided_kernels: [],
    failed: [],
    distrust: null,
  });
});

test('kernels that are wrong by themselves are avoided, and the others are used', async () => {
  const card = { ...onCard(['k3'], 'wrong'), ...onCard(['k1'], 'die') };
  const result = await testEngine({ card });
  expect(result).toMatchObject({ cases: 24, kernels: 'fused', avoided_kernels: ['k1', 'k3'], distrust: null });
  expect(result.failed.map((failed) => failed.case)).toEqual(['k1', 'k3']);
});

test('a training step that is wrong with fused kernels is computed with plain ops, and if right those are trusted', async () => {
  const result = await testEngine({
    card: { ...onCard(['training step bfloat16'], 'wrong'), ...onCard(['k3'], 'wrong') },
  });
  // The table, the steps with fused kernels, then two simple cases and two steps with plain ops.
  expect(result).toMatchObject({ cases: 28, kernels: 'raw', avoided_kernels: ['k3'], distrust: null });
  expect(result.failed.map((failed) => failed.case)).toEqual(['k3', 'training step bfloat16']);
});

test('a training step that is wrong with plain ops as well is not trusted', async () => {
  const step = ['training step float32'];
  const result = await testEngine({ card: { ...onCard(step, 'wrong'), ...onCard(step, 'wrong', 'raw') } });
  expect(result).toMatchObject({ kernels: 'raw', cases: 28 });
  expect(result.distrust).toMatch(
    /^wrong on this card: training step float32 with plain ops only \(output differs in 1 of 1/,
  );
});

test('a simple op that is wrong is not trusted at any level, and nothing else is tried', async () => {
  const result = await testEngine({ card: onCard(['matMul'], 'wrong') });
  expect(result).toMatchObject({ cases: 22, distrust: expect.stringMatching(/^wrong on this card: matMul \(/) });
});

test('a simple op that is wrong with plain ops alone is not trusted', async () => {
  const card = { ...onCard(['training step float32'], 'wrong'), ...onCard(['matMul'], 'wrong', 'raw') };
  expect((await testEngine({ card })).distrust).toMatch(/^wrong on this card: matMul with plain ops only \(/);
});

test('where so many kernels end their process that none can be blamed, plain ops are tried', async () => {
  const result = await testEngine({ card: onCard(numbered(13), 'die') });
  expect(result).toMatchObject({ kernels: 'raw', avoided_kernels: [], distrust: null });
  expect(result.failed).toEqual([{ case: 'all kernels', fault: '13 processes died while they computed it' }]);
});

test('a case that hangs is a failed case, and another process computes the others', async () => {
  const limits = { silenceMs: { card: 5_000, cpu: 120_000 } };
  const result = await testEngine({ card: onCard(['k3'], 'hang') }, limits);
  expect(result).toMatchObject({ kernels: 'fused', avoided_kernels: ['k3'], distrust: null });
  expect(result.failed).toEqual([{ case: 'k3', fault: 'its process hung and was killed' }]);
});

test('a test that does not end in time has no result, which is no fault of the card', async () => {
  const message = await withoutResult({}, { startMs: 0, caseMs: 0 });
  expect(message).toMatch(
    /^it did not end within \d+ s: \d+ cases were computed on the card, \d+ on the CPU\. .*GPU_SELF_TEST=small/,
  );
  expect(message).not.toContain('wrong');
});

test('a case that the CPU cannot compute has no result: the card is not blamed', async () => {
  expect(await withoutResult({ cpu: onCard(['k3'], 'fail') })).toBe('the CPU could not compute k3: no memory');
  expect(await withoutResult({ cpu: onCard(['k3'], 'die') })).toBe(
    'the CPU could not compute k3: its process was killed by SIGKILL',
  );
  expect(await withoutResult({ cpu: onCard(numbered(13), 'die') })).toBe(
    'on the CPU, 13 processes died while they computed it',
  );
});

test('an engine that cannot be started has no result', async () => {
  expect(await withoutResult({ card: { start: 'the driver is too old' } })).toBe('the driver is too old');
});

test('a limit is over after its time, and later by what it was extended', () => {
  useFakeTime();
  const limit = new TestLimit(1_000);
  vi.advanceTimersByTime(999);
  limit.extend(500);
  vi.advanceTimersByTime(500);
  expect(limit.signal.aborted).toBe(false);
  limit.extend(2_000);
  vi.advanceTimersByTime(2_000);
  expect(limit.signal.aborted).toBe(false);
  vi.advanceTimersByTime(1);
  expect(limit.signal.aborted).toBe(true);
});

test('a limit that is stopped is never over', () => {
  useFakeTime();
  const limit = new TestLimit(1_000);
  limit.stop();
  vi.advanceTimersByTime(10_000);
  expect(limit.signal.aborted).toBe(false);
});
