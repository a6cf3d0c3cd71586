import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { numericCases } from '../../packages/tensor/src/numeric-cases/index.js';
import { judgeCase } from '../../services/worker/src/self-test/judge-engine.js';
import { CaseProcess } from '../self-test/case-process.js';
import { CaseTable } from '../self-test/case-table.js';

// The full table of the self-test on the emulated card, as a worker computes it at its first start on a card. It takes long, so
// FULL_TABLE=1 asks for it: `npm run test:all` has it. CASES=TEXT chooses those whose names contain it.

const LIBRARIES = fileURLToPath(new URL('../../packages/tensor/native/build/emulated', import.meta.url));
const SIZES = 'full';
/** Processes of the card, each on a core. */
const CARDS = 2;
/** A case that took longer is named with its time, in seconds. */
const LONG_S = 30;

describe.runIf(process.env.FULL_TABLE === '1')('the full table of the self-test on the emulated card', () => {
  const names = [...numericCases(SIZES).map(({ name }) => name), 'training step float32', 'training step bfloat16'];
  const chosen = names.filter((name) => name.includes(process.env.CASES ?? ''));

  test(`agrees with the CPU`, { timeout: 6 * 3_600_000 }, async () => {
    const table = new CaseTable(['emulated card', 'seconds of processor time']);
    const faults: string[] = [];
    const waiting = [...chosen];
    const computeNext = async (card: CaseProcess, cpu: CaseProcess): Promise<void> => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        const of = { name, sizes: SIZES, kernels: 'fused' } as const;
        const actual = await card.compute(of);
        const expected = await cpu.compute(of);
        const { fault, excess } = judgeCase(actual.computed, expected.computed);
        table.add(name, 'emulated card', excess);
        table.add(name, 'seconds of processor time', actual.seconds);
        table.write('emulated-card.md');
        if (fault !== null) faults.push(`${name}: ${fault}`);
        if (actual.seconds > LONG_S) console.log(`${actual.seconds.toFixed(0)} s: ${name}`);
      }
    };
    const pairs = Array.from({ length: CARDS }, () => ({
      card: new CaseProcess('the card', { ...process.env, ENGINE: 'cuda', CUDA_LIBRARY_DIR: LIBRARIES }),
      cpu: new CaseProcess('the CPU', { ...process.env, ENGINE: 'cpu', CUDA_VISIBLE_DEVICES: '-1' }),
    }));
    try {
      await Promise.all(pairs.map(({ card, cpu }) => computeNext(card, cpu)));
    } finally {
      await Promise.all(pairs.flatMap(({ card, cpu }) => [card.end(), cpu.end()]));
    }
    expect(faults).toEqual([]);
  });
});
