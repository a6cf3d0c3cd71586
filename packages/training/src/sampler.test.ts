import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LoraAdapter } from '@lorasmith/lora';
import { loadModelText, readModelFolder } from '@lorasmith/model-folder';
import { loadDecoder } from '@lorasmith/models';
import { configureKernels, liveTensorCount, tensorOf } from '@lorasmith/tensor';
import { expect, onTestFinished, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { Sampler } from './sampler.js';

test('non-finite sample logits fail the job with non_finite_loss and leak no tensor', async () => {
  configureKernels('fused');
  const folder = join(await mkdtemp(join(tmpdir(), 'sampler-')), 'tiny');
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(folder);
  await writeTinyLlama(folder);
  const base = await loadDecoder(await readModelFolder(folder), 'float32');
  const targets = base.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 1 })));
  const adapter = new LoraAdapter(base.groups, { targets, dropout: 0, seed: 0 });
  const text = await loadModelText(folder);
  const settings = { prompts: ['a'], every_steps: null, max_tokens: 3, temperature: 0, top_p: 1 };
  const prompts = [text.tokenizer.encode('a b')];
  const sampler = new Sampler({ base, adapter, text, settings, prompts, seed: 0, turn: async (_, work) => work() });
  expect(await sampler.answers()).toMatchObject([{ prompt: 0, finish_reason: expect.stringMatching(/stop|length/) }]);
  const fail = async () => {
    const broken = new Float32Array(adapter.parameterCount).fill(Number.NaN);
    adapter.setParameters(tensorOf(broken, [broken.length]));
    await expect(sampler.answers()).rejects.toMatchObject({ code: 'non_finite_loss' });
    return liveTensorCount();
  };
  // On some engines an adapter keeps matrices from its first pass on, for as many layers as the pass has reached.
  expect(await fail()).toBe(await fail());
  adapter.dispose();
  base.dispose();
});
