import { appendFile, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ModelFolder } from '@lorasmith/model-folder';
import { SeededRandom } from '@lorasmith/seeded-random';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { tinyClassifier } from '../../test/tiny-model.js';
import { classification, codesOfFeatures, type FeatureExamples } from '../objectives/classification/classification.js';
import { nextToken } from '../objectives/next-token/next-token.js';
import { codesOfSequence, type TokenExamples } from '../objectives/next-token/token-examples.js';
import { BitSet, splitExamples } from '../validation-split.js';
import { EXAMPLE_FILES, ExampleWriter, openExampleFile } from './example-file.js';

const NOTES = {
  counts: { overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: 1 },
  warnings: [],
  rendered: null,
};
/** More than one scan reads, more than a thousand blocks, and codes beyond a block of the writer. */
const COUNT = 90_000;

const TOKENS = { objective: nextToken, model: {} as ModelFolder };

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'example-file-'));
});
afterEach(() => rm(folder, { recursive: true }));

interface Sequence {
  ids: Int32Array;
  trained: Uint8Array;
}

function sequences(count: number): Sequence[] {
  const random = new SeededRandom(5, 'sequences');
  const draw = (below: number) => Math.floor(random.next() * below);
  return Array.from({ length: count }, () => {
    const length = 1 + draw(12);
    return {
      ids: Int32Array.from({ length }, () => draw(2 ** 24)),
      trained: Uint8Array.from({ length }, (_, token) => (token === 0 ? 0 : draw(2))),
    };
  });
}

const trainedOf = ({ trained }: Sequence) => trained.reduce((sum, flag) => sum + flag, 0);

/** Three rows a line apart, the first of them of two sequences each. */
const rowOf = (number: number) => Math.floor(number / 2);

async function write(all: Sequence[]): Promise<void> {
  const writer = new ExampleWriter(folder);
  for (const [number, sequence] of all.entries()) {
    const row = rowOf(number);
    writer.add({ codes: codesOfSequence(sequence), trained: trainedOf(sequence), row, line: 3 * row + 1 });
  }
  const summary = { count: writer.count, notes: NOTES, files: writer.finish() };
  await writeFile(join(folder, EXAMPLE_FILES.summary), JSON.stringify(summary));
}

async function opened() {
  const file = await openExampleFile(folder);
  if (file === null) throw new Error('the file is not whole');
  onTestFinished(() => file.close());
  return file;
}

test('gives back what was written, by number and in any order, on both sides of a split', async () => {
  const all = sequences(COUNT);
  await write(all);
  const heldOut = new BitSet(COUNT / 2);
  for (let row = 0; row < COUNT / 2; row += 7) heldOut.add(row);
  const { training, validation } = await splitExamples(await opened(), heldOut, TOKENS);

  for (const [side, isHeldOut] of [
    [training, false],
    [validation, true],
  ] as const) {
    const numbers = all.map((_, number) => number).filter((number) => heldOut.has(rowOf(number)) === isHeldOut);
    const expected = numbers.map((number) => all[number]!);
    const lengths = expected.map(({ ids }) => ids.length);
    expect(side).toMatchObject({
      kind: 'next-token',
      count: expected.length,
      tokens: lengths.reduce((sum, length) => sum + length, 0),
      trainedTokens: expected.reduce((sum, sequence) => sum + trainedOf(sequence), 0),
      longest: Math.max(...lengths),
    });
    const order = new SeededRandom(1, 'reading').permutation(side.count).subarray(0, 4000);
    const read = Array.from(order, (number) => ({
      sequence: (side as TokenExamples).sequence(number),
      length: side.lengthOf(number),
      labels: side.labelsOf(number),
      line: side.lineOf(number),
    }));
    expect(read).toEqual(
      Array.from(order, (number) => ({
        sequence: expected[number],
        length: lengths[number],
        labels: trainedOf(expected[number]!),
        line: 3 * rowOf(numbers[number]!) + 1,
      })),
    );
  }
});

test('without a split all is for training', async () => {
  const all = sequences(500);
  await write(all);
  const { training, validation } = await splitExamples(await opened(), new BitSet(250), TOKENS);
  expect([training.count, validation.count, validation.tokens]).toEqual([500, 0, 0]);
  expect(all.map((_, number) => (training as TokenExamples).sequence(number))).toEqual(all);
});

test('keeps a row of numbers to the last bit', async () => {
  const rows = [
    { features: [0.1, -0, 3.4e38], label: 0 },
    { features: [1e-45, 65504, -1 / 3], label: 2 ** 31 - 1 },
  ];
  const writer = new ExampleWriter(folder);
  for (const [row, { features, label }] of rows.entries()) {
    writer.add({ codes: codesOfFeatures(features, label), trained: 1, row, line: row + 1 });
  }
  const summary = { count: 2, notes: NOTES, files: writer.finish() };
  await writeFile(join(folder, EXAMPLE_FILES.summary), JSON.stringify(summary));
  const { training } = await splitExamples(await opened(), new BitSet(2), {
    objective: classification,
    model: tinyClassifier(),
  });
  expect(training).toMatchObject({
    kind: 'classification',
    width: 3,
    count: 2,
    tokens: 2,
    trainedTokens: 2,
    longest: 1,
  });
  expect(rows.map((_, row) => (training as FeatureExamples).row(row))).toEqual(
    rows.map(({ features, label }) => ({ features: Float32Array.from(features), label })),
  );
});

describe('is not opened', () => {
  beforeEach(() => write(sequences(2000)));

  test.each(['index', 'words'] as const)('a file with one byte of %s changed is not opened', async (name) => {
    const handle = await open(join(folder, EXAMPLE_FILES[name]), 'r+');
    const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, 4321);
    buffer[0]! ^= 1;
    await handle.write(buffer, 0, 1, 4321);
    await handle.close();
    expect(await openExampleFile(folder)).toBeNull();
  });

  test('a file with a byte too many is not opened', async () => {
    await appendFile(join(folder, EXAMPLE_FILES.words), 'x');
    expect(await openExampleFile(folder)).toBeNull();
  });

  test.each(Object.values(EXAMPLE_FILES))('a folder without %s is not opened', async (name) => {
    await rm(join(folder, name));
    expect(await openExampleFile(folder)).toBeNull();
  });

  test.each(['', '{"count":', '{}', '[]'])('a file with %j for a summary is not opened', async (content) => {
    await writeFile(join(folder, EXAMPLE_FILES.summary), content);
    expect(await openExampleFile(folder)).toBeNull();
  });

  test('opening ends once it is cancelled', async () => {
    await expect(openExampleFile(folder, AbortSignal.abort('cancel'))).rejects.toMatchObject({ code: 'cancelled' });
  });
});
