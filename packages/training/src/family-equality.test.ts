import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readModelFolder } from '@lorasmith/model-folder';
import { Decoder, LoraAdapter, loadDecoder, type TokenBatch, type TokenRow, tokenBatchOf } from '@lorasmith/models';
import { type PeftAdapter, readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, liveTensorCount, toFloat32Array } from '@lorasmith/tensor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { familiesByKernels } from '../../../test/usual-cases.js';
import { AdamW } from './adamw.js';
import { runnable } from './batches.js';
import { ReferenceBatch } from './check-reference/reference-case.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { takeBatchLoss } from './objectives/objective.js';
import { optimizerStep } from './optimizer-step.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';

const CASES = new URL('../../../test/fixtures/families/', import.meta.url).pathname;

/**
 * The cut of a batch must not change what is learned from it, in any family: float32, 1e-5. Rows are in several groups
 * of similar length, and longer than windows and original positions.
 */
describe.each(familiesByKernels(readdirSync(CASES)))('$name, with $kernels kernels', ({ name, kernels: source }) => {
  const kernels = chooseKernels(source);
  let decoder: Decoder;
  let initial: PeftAdapter;
  let adapter: LoraAdapter;
  let batch: ReferenceBatch;

  beforeAll(async () => {
    decoder = await loadDecoder(await readModelFolder(join(CASES, name, 'base')), 'float32', kernels);
    batch = await ReferenceBatch.read(join(CASES, name));
    initial = await readPeftFolder(join(CASES, name, 'adapter_init'));
    adapter = adapterOn(decoder);
  });
  afterAll(() => {
    adapter.dispose();
    decoder.dispose();
  });
  const adapterOn = ({ groups }: Decoder) => {
    const targets = [...initial.modules].map(([module, { rank, scale }]) => ({ name: module, rank, scale }));
    return new LoraAdapter(groups, { targets, dropout: 0, seed: 0, initial });
  };
  const alike = (length: number, other: number) => decoder.hasSameRope(length, other);
  /** A row that predicts nothing has no loss by itself; beside others it must change nothing. */
  const rowByRow = () => batch.rows.map((row) => tokenBatchOf([row])).filter(({ labels }) => labels.length > 0);

  /** Loss per label and the gradient of the sum, over all of these. */
  function learned(model: Decoder, batches: readonly TokenBatch[], by = adapter) {
    let lossSum = 0;
    let labels = 0;
    for (const each of batches) {
      const result = new NextToken(model).lossAndGradients(each, { adapters: [{ adapter: by }] });
      lossSum += takeBatchLoss(result).lossSum;
      labels += result.normaliser;
    }
    const gradient = by.takeGradient();
    const values = toFloat32Array(gradient);
    gradient.dispose();
    return { loss: lossSum / labels, labels, gradient: values };
  }

  test('rows in one stream are what they are one by one', () => {
    const together = learned(decoder, [batch.asTokenBatch()]);
    const apart = learned(decoder, rowByRow());
    expect(together.labels).toBe(apart.labels);
    expect(Math.abs(together.loss - apart.loss)).toBeLessThan(1e-5);
    expect(differenceByLargest(together.gradient, apart.gradient)).toBeLessThan(1e-5);
  });

  test('rows that share a prompt are what they are with a prompt each', () => {
    const rows = answersToPrompts(batch.rows);
    const shared = tokenBatchOf(rows, alike);
    const apart = tokenBatchOf(rows);
    // There each length has a rotation of its own.
    expect(shared.places === null).toBe(name === 'rope-dynamic');
    const together = learned(decoder, [shared]);
    const each = learned(decoder, [apart]);
    // A row's numbers do not depend on what else is computed, unless TensorFlow computes them.
    if (source === 'fused') expect(together.loss).toBe(each.loss);
    expect(together.labels).toBe(each.labels);
    expect(Math.abs(together.loss - each.loss)).toBeLessThan(1e-5);
    expect(differenceByLargest(together.gradient, each.gradient)).toBeLessThan(1e-5);
    const ofRows = (one: TokenBatch) => new NextToken(decoder).rowLosses(one, { adapters: [{ adapter }] });
    expect(differenceByLargest(ofRows(shared), ofRows(apart))).toBeLessThan(1e-5);
  });

  test('the loss in chunks is the loss in one piece', () => {
    const { architecture, dtype, weights } = decoder;
    const chunked = new Decoder(architecture, dtype, kernels, weights, { logitsInChunk: 7 * architecture.vocabSize });
    const whole = learned(decoder, [batch.asTokenBatch()]);
    const ofChunked = adapterOn(chunked);
    const pieces = learned(chunked, [batch.asTokenBatch()], ofChunked);
    ofChunked.dispose();
    expect(Math.abs(pieces.loss - whole.loss)).toBeLessThan(1e-5);
    expect(differenceByLargest(pieces.gradient, whole.gradient)).toBeLessThan(1e-5);
  });

  test('a step over accumulated micro-batches is the step over one batch', async () => {
    const optimizer = new AdamW(kernels, adapter.parameterCount, {
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
    });
    const objective = new NextToken(decoder);
    const run = (each: TokenBatch) => runnable(objective, each);
    const step = async (batches: readonly TokenBatch[]) => {
      // Nothing moves, so that both see the same adapter; loss and norm tell the gradients apart.
      const settings = { seed: 0, max_grad_norm: 1, learningRate: 0, recomputedLayers: 0 };
      return await optimizerStep(adapter, optimizer, batches.map(run), settings, new PassScheduler().join());
    };
    const whole = await step([batch.asTokenBatch()]);
    const parts = await step(rowByRow());
    optimizer.dispose();
    const tokens = rowByRow().reduce((sum, { ids }) => sum + ids.length, 0);
    expect(parts).toMatchObject({ trainedTokens: whole.trainedTokens, tokens });
    expect(Math.abs(parts.loss - whole.loss)).toBeLessThan(1e-5);
    expect(Math.abs(parts.gradNorm / whole.gradNorm - 1)).toBeLessThan(1e-5);
  });

  test('leaves nothing alive from step to step', () => {
    const shared = tokenBatchOf(answersToPrompts(batch.rows), alike);
    learned(decoder, [batch.asTokenBatch(), shared]);
    const before = liveTensorCount();
    learned(decoder, [batch.asTokenBatch(), shared]);
    new NextToken(decoder).loss(batch.asTokenBatch(), { adapters: [{ adapter }] });
    expect(liveTensorCount()).toBe(before);
  });
});

/** The first two thirds of each row, with its own end, that of the next row, and none but its first token. */
function answersToPrompts(rows: readonly TokenRow[]): TokenRow[] {
  return rows.flatMap(({ ids }, index) => {
    const length = Math.ceil((2 * ids.length) / 3);
    const prompt = [...ids.subarray(0, length)];
    const next = rows[(index + 1) % rows.length]!.ids;
    const answers = [
      ids.subarray(length),
      next.subarray(0, Math.ceil(next.length / 3)),
      ids.subarray(length, length + 1),
    ];
    return answers.map((answer) => ({
      ids: Int32Array.from([...prompt, ...answer]),
      trained: new Uint8Array(prompt.length + answer.length).fill(1, prompt.length),
    }));
  });
}
