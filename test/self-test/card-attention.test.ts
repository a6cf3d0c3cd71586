import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { chooseKernels, HEAD_SIZES } from '../../packages/tensor/src/index.js';
import { type AttentionCase, attentionCases } from '../../packages/tensor/src/numeric-cases/index.js';
import { type ComputedCase, computeCase } from '../../packages/training/src/self-test.js';
import { judgeCase } from '../../services/worker/src/self-test/judge-engine.js';
import { HAS_ALL_CASES, usualCases } from '../usual-cases.js';
import { CardAttention, MUTANTS, type Mutant } from './card-attention.js';
import { CaseProcess } from './case-process.js';
import { CaseTable } from './case-table.js';
import { librariesHere } from './libraries-here.js';
import { plainTolerance } from './plain-tolerance.js';

// A model of the card's attention in bfloat16, judged as a card is: right whatever it is compared with, and wrong with an error.
// Continuous integration has every head size and the long rows.

const SIZES = HAS_ALL_CASES ? 'full' : 'small';
const { best, other } = librariesHere();
const PLAIN = 'plain ops';
const PLAIN_KERNELS = chooseKernels('raw');

/** The names of what a card's numbers are compared with. */
const references = [best, other, PLAIN].filter((name) => name !== null);
const table = new CaseTable(references);
const mutantTable = new CaseTable(references);
let otherProcess: CaseProcess | null = null;

beforeAll(() => {
  if (other !== null) otherProcess = new CaseProcess(other, { ...process.env, ENGINE: 'cpu' });
});
afterAll(async () => {
  await otherProcess?.end();
});
afterEach(() => {
  table.write('card-attention.md');
  mutantTable.write('card-attention-errors.md');
});

const casesOf = (headDim: number) => attentionCases('bfloat16', headDim, SIZES);

/** A case with the model's numbers in place of a card's. */
async function modelled(one: AttentionCase, mutant: Mutant | null): Promise<ComputedCase> {
  const compute = () => one.computeWith((rows) => new CardAttention(rows, mutant));
  const computed = await computeCase({ ...one, compute }, PLAIN_KERNELS, 1);
  expect(computed.error).toBeNull();
  return computed;
}

const known = new Map<string, ComputedCase>();

async function expected(one: AttentionCase, reference: string): Promise<ComputedCase> {
  const key = `${reference} ${one.name}`;
  const computed = known.get(key) ?? (await computedBy(one, reference));
  expect(computed.error).toBeNull();
  known.set(key, computed);
  return computed;
}

async function computedBy(one: AttentionCase, reference: string): Promise<ComputedCase> {
  if (reference === other) {
    return (await otherProcess!.compute({ name: one.name, sizes: SIZES, kernels: 'fused', instructionSet: other }))
      .computed;
  }
  return await computeCase(one, reference === PLAIN ? PLAIN_KERNELS : chooseKernels('fused'), 1);
}

describe.each(usualCases(HEAD_SIZES, 1))('attention of head size %i on a card', (headDim) => {
  test.each(casesOf(headDim))('is right: $name', async (one) => {
    const card = await modelled(one, null);
    for (const reference of references) {
      const right = await expected(one, reference);
      const tolerance = reference === PLAIN ? plainTolerance(right) : right.tolerance;
      const { fault, excess } = judgeCase(card, { ...right, tolerance });
      table.add(one.name, reference, excess);
      expect.soft(fault, `compared with ${reference}`).toBeNull();
    }
  });
});

/** The case that must notice an error: the one with a window, sinks or a cap for those of these, else the longest row. */
const shapeFor = (mutant: Mutant) =>
  mutant.includes('window')
    ? 'a long row with a window'
    : mutant.includes('sinks')
      ? 'sinks and a window'
      : mutant.includes('cap')
        ? 'window and soft cap'
        : 'a long row';

describe.runIf(HAS_ALL_CASES).each([64, 128])('attention of head size %i on a card with an error', (headDim) => {
  test.each(usualCases(MUTANTS, 1))('is wrong: %s', async (mutant) => {
    const one = casesOf(headDim).find(({ name }) => name.endsWith(`, ${shapeFor(mutant)}`))!;
    const card = await modelled(one, mutant);
    for (const reference of [best, other].filter((name) => name !== null)) {
      const { fault, excess } = judgeCase(card, await expected(one, reference));
      mutantTable.add(`${mutant}, head size ${headDim}`, reference, excess);
      expect.soft(fault, `compared with ${reference}`).not.toBeNull();
    }
  });
});
