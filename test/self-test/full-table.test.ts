import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { numericCases } from '../../packages/tensor/src/numeric-cases/index.js';
import type { ComputedCase } from '../../packages/training/src/self-test.js';
import { judgeCase } from '../../services/worker/src/self-test/judge-engine.js';
import { HAS_ALL_CASES, usualCases } from '../usual-cases.js';
import { CaseProcess } from './case-process.js';
import { CaseTable } from './case-table.js';
import { librariesHere } from './libraries-here.js';
import { plainTolerance } from './plain-tolerance.js';

// The table that a worker computes at its first start on a card, between two libraries of the CPU that round in other places, and
// with TensorFlow's own ops: a case that a right kernel fails would replace it on every card. Continuous integration runs it.

const SIZES = 'full';
const { best, other } = librariesHere();
const seconds = new CaseTable([best, other ?? 'none', 'plain', 'MB of results']);
const table = new CaseTable([`${best}, not ${other}`, `${best}, not plain`, `${other}, not plain`]);
const cases = [
  ...numericCases(SIZES).map(({ name, subject }) => ({ name, subject })),
  ...['float32', 'bfloat16'].map((dtype) => ({
    name: `training step ${dtype}`,
    subject: { kind: 'training', name: dtype },
  })),
];

const float32Names = new Set(cases.map(({ name }) => name).filter((name) => !/\bbfloat16\b/.test(name)));

describe.runIf(HAS_ALL_CASES)('the full table, in continuous integration', () => {
  let processes: { best: CaseProcess; other: CaseProcess | null };

  beforeAll(() => {
    const environment = { ...process.env, ENGINE: 'cpu' };
    processes = {
      best: new CaseProcess(best, environment),
      other: other === null ? null : new CaseProcess(other, environment),
    };
  });
  afterAll(async () => {
    await Promise.all([processes.best.end(), processes.other?.end()]);
  });

  afterEach(() => {
    table.write('full-table.md');
    seconds.write('full-table-seconds.md');
  });

  test.each(usualCases(cases, 1))('$name', async ({ name, subject }) => {
    const of = { name, sizes: SIZES } as const;
    const [fused, others] = await Promise.all([
      processes.best.compute({ ...of, kernels: 'fused', instructionSet: best }),
      other === null ? null : processes.other!.compute({ ...of, kernels: 'fused', instructionSet: other }),
    ]);
    seconds.add(name, best, fused.seconds);
    const numbers = Object.values(fused.computed.values ?? {}).reduce((sum, { length }) => sum + length, 0);
    seconds.add(name, 'MB of results', (4 * numbers) / 1e6);
    if (others !== null) seconds.add(name, other!, others.seconds);
    const judge = (column: string, actual: ComputedCase, expected: ComputedCase) => {
      const { fault, excess } = judgeCase(actual, expected);
      table.add(name, column, excess);
      expect.soft(fault, column).toBeNull();
    };
    if (others !== null) judge(`${best}, not ${other}`, fused.computed, others.computed);
    // Simple ops are TensorFlow's own in both. Bfloat16 is compared with them at the sizes of fused-kernels-*.test.ts.
    if (subject.kind === 'op' && !/lora|clamped|gathered/.test(subject.name)) return;
    if (/\bbfloat16\b/.test(name) && float32Names.has(name.replace(/\bbfloat16\b/, 'float32'))) return;
    const plain = await processes.best.compute({ ...of, kernels: 'raw' });
    seconds.add(name, 'plain', plain.seconds);
    const expected = { ...plain.computed, tolerance: plainTolerance(plain.computed) };
    judge(`${best}, not plain`, fused.computed, expected);
    if (others !== null) judge(`${other}, not plain`, others.computed, expected);
  });
});
