import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { LoraAdapter, loadDecoder } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, liveTensorCount } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { greatestDifference } from '../../../../../test/numeric/greatest-difference.js';
import { ReferenceBatch, readTensors } from '../../check-reference/reference-case.js';
import { NextToken } from './next-token.js';

const kernels = chooseKernels('raw');

const FIXTURES = fileURLToPath(new URL('../../../../../test/fixtures', import.meta.url));
const CASES = [
  'reference/llama-tied',
  'reference/qwen2',
  ...readdirSync(join(FIXTURES, 'families')).map((name) => `families/${name}`),
];

interface Expected {
  /** The log-probability of each label, row by row in the order of the reference. */
  logProbabilities: number[][];
  /** Labels that PyTorch ranks first: those that TRL's mean_token_accuracy counts, argmax of the shifted logits. */
  correct: number;
}

/** The losses of the labels by PyTorch's logits. */
function expectedOf({ rows }: ReferenceBatch, logits: Float32Array, vocab: number): Expected {
  let index = 0;
  let correct = 0;
  const logProbabilities = rows.map(({ ids, trained }) => {
    const own: number[] = [];
    for (let i = 0; i < ids.length; i++, index++) {
      if (i + 1 === ids.length || trained[i + 1] === 0) continue;
      const row = logits.subarray(index * vocab, (index + 1) * vocab);
      const largest = row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
      const total = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
      own.push(row[ids[i + 1]!]! - largest - Math.log(total));
      if (row.indexOf(largest) === ids[i + 1]) correct += 1;
    }
    return own;
  });
  return { logProbabilities, correct };
}

const sumOf = (numbers: Iterable<number>) => [...numbers].reduce((sum, value) => sum + value, 0);

describe.each(CASES)('%s', (name) => {
  test("log-probabilities of tokens and losses of rows are those of PyTorch's logits, sum up to the loss, and as many are ranked first", async () => {
    const folder = join(FIXTURES, name);
    const model = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32', kernels);
    const initial = await readPeftFolder(join(folder, 'adapter_init'));
    const targets = [...initial.modules].map(([module, { rank, scale }]) => ({ name: module, rank, scale }));
    const adapter = new LoraAdapter(model.groups, { targets, dropout: 0, seed: 0, initial });
    const reference = await ReferenceBatch.read(folder);
    const padded = (await readTensors(join(folder, 'expected.safetensors'))).get('logits')!.data;
    const { vocabSize } = model.architecture;
    const { logProbabilities: expected, correct: ranked } = expectedOf(
      reference,
      reference.unpadded(padded, vocabSize),
      vocabSize,
    );

    const batch = reference.asTokenBatch();
    const objective = new NextToken(model);
    const options = { adapters: [{ adapter }] };
    const logProbabilities = objective.tokenLogProbabilities(batch, options);
    expect(
      greatestDifference(
        logProbabilities,
        batch.order.flatMap((row) => expected[row]!),
      ),
    ).toBeLessThan(1e-4);

    const handles = liveTensorCount();
    const losses = objective.rowLosses(batch, options);
    expect(liveTensorCount()).toBe(handles);
    expect(
      greatestDifference(
        losses,
        expected.map((row) => -sumOf(row)),
      ),
    ).toBeLessThan(1e-3);

    const { lossSum, correct, normaliser } = objective.loss(batch, options);
    expect(correct).toBe(ranked);
    expect(Math.abs(sumOf(losses) - lossSum) / normaliser).toBeLessThan(1e-5);
    expect(Math.abs(sumOf(logProbabilities) + lossSum) / normaliser).toBeLessThan(1e-5);
    adapter.dispose();
    model.dispose();
  });
});
