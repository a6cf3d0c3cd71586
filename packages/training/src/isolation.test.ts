import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import {
  type ActingAdapter,
  type Decoder,
  LoraAdapter,
  loadDecoder,
  type TokenBatch,
  tokenBatchOf,
} from '@lorasmith/models';
import { chooseKernels, dispose, tensorOf, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { normalNumbers } from '../../../test/numeric/normal-numbers.js';
import { oneOfEachStructure } from '../../../test/usual-cases.js';
import { NextToken } from './objectives/next-token/next-token.js';

// A job's results of a pass have the same bits beside any other jobs, in any order.

const FIXTURES = fileURLToPath(new URL('../../../test/fixtures', import.meta.url));
const CASES = [
  ...['llama-tied', 'llama-untied-all-linear', 'qwen2'].map((name) => `reference/${name}`),
  ...oneOfEachStructure(readdirSync(join(FIXTURES, 'families'))).map((name) => `families/${name}`),
  ...['nf4-nested', 'nf4-experts', 'fp8-blocks'].map((name) => `quantized/${name}`),
];

interface JobShape {
  /** Tokens of each row, and how many of them are no labels. */
  rows: readonly (readonly [length: number, prompt: number])[];
  rank: number;
  dropout: number;
  adapts: (module: number, modules: number) => boolean;
}

const everywhere = () => true;
/** Jobs of different ranks, layers, dropout, and rows from 3 tokens to more than the windows and original positions. */
const JOBS: readonly JobShape[] = [
  {
    rows: [
      [9, 3],
      [21, 11],
    ],
    rank: 3,
    dropout: 0.3,
    adapts: everywhere,
  },
  { rows: [[8, 1]], rank: 8, dropout: 0, adapts: (module, modules) => module >= modules - 3 },
  {
    rows: [
      [4, 1],
      [7, 2],
      [20, 15],
    ],
    rank: 1,
    dropout: 0.1,
    adapts: (module) => module % 2 === 1,
  },
  { rows: [[33, 5]], rank: 5, dropout: 0, adapts: everywhere },
  { rows: [[3, 1]], rank: 2, dropout: 0, adapts: (module) => module === 0 },
  {
    rows: [
      [16, 3],
      [16, 8],
      [16, 1],
    ],
    rank: 16,
    dropout: 0.5,
    adapts: (module) => module % 3 === 0,
  },
  { rows: [[30, 29]], rank: 4, dropout: 0, adapts: everywhere },
  {
    rows: [
      [13, 2],
      [38, 4],
    ],
    rank: 4,
    dropout: 0,
    adapts: everywhere,
  },
];
/** The last job's parameters are NaN. */
const BROKEN = JOBS.length - 1;

interface Job {
  adapter: LoraAdapter;
  batch: TokenBatch;
  dropoutSeed: [seed: number, pass: number];
}

function jobsOn(decoder: Decoder): Job[] {
  const modules = decoder.groups.flatMap((group) => group.modules);
  const { vocabSize } = decoder.architecture;
  return JOBS.map(({ rows, rank, dropout, adapts }, index) => {
    const targets = modules
      .filter((_, module) => adapts(module, modules.length))
      .map(({ name }, module) => ({ name, rank, scale: 0.5 + (module % 3) }));
    const adapter = new LoraAdapter(decoder.groups, { targets, dropout, seed: index });
    const numbers = normalNumbers(adapter.parameterCount, index).map((value) => 0.3 * value);
    if (index === BROKEN) numbers.fill(Number.NaN);
    adapter.setParameters(tensorOf(numbers, [numbers.length]));
    const sequences = rows.map(([length, prompt], row) => ({
      ids: Int32Array.from({ length }, (_, i) => (3 + 11 * index + 5 * row + 7 * i) % vocabSize),
      trained: Uint8Array.from({ length }, (_, i) => Number(i >= prompt)),
    }));
    return { adapter, batch: tokenBatchOf(sequences), dropoutSeed: [index, 10 + index] };
  });
}

/** Losses and gradient of each of these jobs, as bytes. */
function passOf(
  objective: NextToken,
  jobs: readonly Job[],
  recomputedLayers = 0,
): { losses: Buffer; gradient: Buffer }[] {
  const joined = objective.join(jobs.map(({ batch }) => batch));
  const adapters = jobs.map(({ adapter, dropoutSeed }, i): ActingAdapter => {
    return { adapter, dropoutSeed, tokens: joined.tokens[i] };
  });
  const { losses, correct } = objective.lossAndGradients(joined.batch, { adapters, recomputedLayers });
  const all = toFloat32Array(losses);
  dispose([losses, correct]);
  return jobs.map(({ adapter }, i) => {
    const { first, count } = joined.labels[i]!;
    const gradient = adapter.takeGradient();
    const numbers = toFloat32Array(gradient);
    gradient.dispose();
    return { losses: bytesOf(all.slice(first, first + count)), gradient: bytesOf(numbers) };
  });
}

const bytesOf = (numbers: Float32Array) => Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
const numbersOf = ({ buffer, byteOffset, length }: Buffer) => new Float32Array(buffer, byteOffset, length / 4);

describe.each(CASES)('%s', (name) => {
  const kernels = chooseKernels('fused');

  test.for(['float32', 'bfloat16'] as const)(
    'in %s a job learns beside others what it learns alone',
    async (dtype, { skip }) => {
      if (!kernels.rowsAreIndependent(dtype))
        skip(`The products of this processor in ${dtype} depend on the number of rows.`);
      const decoder = await loadDecoder(await readModelFolder(join(FIXTURES, name, 'base')), dtype, kernels);
      const objective = new NextToken(decoder);
      const jobs = jobsOn(decoder);
      const alone = jobs.map((job) => passOf(objective, [job])[0]!);
      // Experts that none of its tokens pass have nothing to learn.
      const broken = numbersOf(alone[BROKEN]!.gradient);
      expect(broken.every((value) => Number.isNaN(value) || value === 0)).toBe(true);
      expect(broken.some(Number.isNaN)).toBe(true);
      for (const { gradient } of alone.slice(0, BROKEN)) {
        expect(numbersOf(gradient).every(Number.isFinite)).toBe(true);
        expect(numbersOf(gradient).some((value) => value !== 0)).toBe(true);
      }

      const differing = (order: readonly number[], recomputedLayers: number) => {
        const company = order.map((index) => jobs[index]!);
        return passOf(objective, company, recomputedLayers).flatMap(({ losses, gradient }, position) => {
          const own = alone[order[position]!]!;
          if (order[position] === BROKEN) return [];
          return [
            ...(losses.equals(own.losses) ? [] : [`losses of job ${order[position]} in ${order}`]),
            ...(gradient.equals(own.gradient) ? [] : [`gradient of job ${order[position]} in ${order}`]),
          ];
        });
      };
      const all = [...jobs.keys()];
      expect([
        ...differing([0, 1], 0),
        ...differing([BROKEN, 2], 0),
        ...differing(all, 0),
        ...differing(all.toReversed(), 1),
      ]).toEqual([]);
      for (const { adapter } of jobs) adapter.dispose();
      decoder.dispose();
    },
  );
});
