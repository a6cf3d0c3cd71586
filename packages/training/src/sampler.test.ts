import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModelText, readModelFolder } from '@lorasmith/model-folder';
import { LoraAdapter, loadDecoder } from '@lorasmith/models';
import { type ScoredRow, sampleSeconds } from '@lorasmith/planning';
import { chooseKernels, liveTensorCount, tensorOf } from '@lorasmith/tensor';
import { expect, onTestFinished, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { Sampler } from './sampler.js';
import type { InTimeSlice } from './shared-pass/engine-time.js';

const kernels = chooseKernels('fused');

/** A tiny llama with an adapter on all layers, and its text. */
async function tinyModel() {
  const folder = join(await mkdtemp(join(tmpdir(), 'sampler-')), 'tiny');
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(folder);
  await writeTinyLlama(folder);
  const base = await loadDecoder(await readModelFolder(folder), 'float32', kernels);
  const targets = base.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 1 })));
  const adapter = new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0 });
  onTestFinished(() => {
    adapter.dispose();
    base.dispose();
  });
  return { base, adapter, text: await loadModelText(folder) };
}

test('a round has as many passes as the estimate counts', async () => {
  const { base, adapter, text } = await tinyModel();
  const settings = {
    prompts: ['a', 'b'],
    held_out_rows: 0,
    every_steps: null,
    max_tokens: 7,
    temperature: 0,
    top_p: 1,
  };
  const prompts = ['a b', 'c a b a'].map((prompt) => text.tokenizer.encode(prompt));
  let passes = 0;
  const inEngineCall: InTimeSlice = async (tokens, work) => {
    // The first turn, of no tokens, makes the cache.
    if (tokens > 0) passes++;
    return work();
  };
  const sampler = new Sampler({ base, adapter, text, settings, prompts, scored: [], seed: 0, inEngineCall });
  const { samples } = await sampler.answers();
  const longest = Math.max(...samples.map(({ tokens }) => tokens));
  let counted = 0;
  sampleSeconds({ settings, prompts }, longest, ({ microBatchesPerStep }) => {
    counted = microBatchesPerStep;
    return 0;
  });
  expect(longest).toBe(7);
  expect(passes).toBe(counted);
});

test('non-finite sample logits fail the job with non_finite_loss and leak no tensor', async () => {
  const { base, adapter, text } = await tinyModel();
  const settings = { prompts: ['a'], held_out_rows: 0, every_steps: null, max_tokens: 3, temperature: 0, top_p: 1 };
  const prompts = [text.tokenizer.encode('a b')];
  const inEngineCall: InTimeSlice = async (_, work) => work();
  const sampler = new Sampler({ base, adapter, text, settings, prompts, scored: [], seed: 0, inEngineCall });
  const samples = [{ prompt: 0, finish_reason: expect.stringMatching(/stop|length/) }];
  expect(await sampler.answers()).toMatchObject({ samples });
  const fail = async () => {
    const broken = new Float32Array(adapter.parameterCount).fill(Number.NaN);
    adapter.setParameters(tensorOf(broken, [broken.length]));
    await expect(sampler.answers()).rejects.toMatchObject({ code: 'non_finite_loss' });
    return liveTensorCount();
  };
  // On some engines an adapter keeps matrices from its first pass on, for as many layers as the pass has reached.
  expect(await fail()).toBe(await fail());
});

test('answers to held-out rows are compared with what the rows say, and leave those to prompts as they are', async () => {
  const { base, adapter, text } = await tinyModel();
  const settings = { prompts: ['a'], held_out_rows: 2, every_steps: null, max_tokens: 5, temperature: 0, top_p: 1 };
  const inEngineCall: InTimeSlice = async (_, work) => work();
  const [asked, heldOut] = ['a b', 'c a b a'].map((prompt) => text.tokenizer.encode(prompt)) as [
    Int32Array,
    Int32Array,
  ];
  const answersOf = (prompts: Int32Array[], scored: ScoredRow[]) =>
    new Sampler({ base, adapter, text, settings, prompts, scored, seed: 0, inEngineCall }).answers();
  const alone = await answersOf([asked, heldOut], []);
  const said = alone.samples[1]!.text;
  const right = { promptIds: heldOut, referenceIds: text.tokenizer.encode(said) };
  const wrong = { promptIds: heldOut, referenceIds: text.tokenizer.encode('quite another answer') };
  expect(await answersOf([asked], [right, wrong])).toEqual({
    samples: [alone.samples[0]],
    scores: { rows: 2, exact_match: 0.5, f1: expect.any(Number), rouge_l: expect.any(Number) },
  });
  expect((await answersOf([], [right])).scores).toEqual({ rows: 1, exact_match: 1, f1: 1, rouge_l: 1 });
});
