import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readModelFolder } from '../../packages/model-folder/src/index.js';
import { Generation, LoraAdapter, loadDecoder, type PromptRequest } from '../../packages/models/src/index.js';
import { chooseKernels, type FloatDType } from '../../packages/tensor/src/index.js';
import { cuda, watchDevice } from './device-watch.js';
import { writeRandomLlama } from './random-llama.js';

const kernels = chooseKernels('fused');

// What a step of generation launches and copies on the card.

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'emulated-generation-'));
  for (const layers of [2, 4]) await writeRandomLlama(path.join(root, `layers-${layers}`), { layers });
});
afterAll(async () => {
  await rm(root, { recursive: true });
});

/** `isAdapted`: each text has an adapter of its own. */
type StepSettings = Partial<PromptRequest> & { isAdapted?: boolean };

/** A step in which each of some texts gets a further token. */
async function tokenStep(
  layers: number,
  texts: number,
  dtype: FloatDType,
  { isAdapted = false, ...settings }: StepSettings = {},
) {
  const decoder = await loadDecoder(await readModelFolder(path.join(root, `layers-${layers}`)), dtype, kernels);
  const generation = new Generation(decoder, { cacheTokens: 4096, maxTexts: 16 });
  const targets = decoder.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 4, scale: 2 })));
  const adapters = Array.from({ length: isAdapted ? texts : 0 }, (_, seed) => {
    return new LoraAdapter(decoder.groups, { targets, dropout: 0, seed });
  });
  try {
    const tokens = new Array<number>(texts).fill(0);
    for (let text = 0; text < texts; text++) {
      const promptIds = Int32Array.from({ length: 1 + ((5 * text) % 40) }, (_, i) => (3 + text + i) % 50);
      const request = { promptIds, adapter: adapters[text] ?? null, maxNewTokens: 100, stopIds: [], ...settings };
      generation.add(request, ({ kind }) => {
        if (kind === 'token') tokens[text]!++;
      });
    }
    // Prompts are read in pieces, some texts ahead of others.
    while (Math.min(...tokens) < 3) generation.step();
    cuda().synchronize();
    const before = cuda().memory().currentBytes;
    const { offDevice, statistics } = await watchDevice(() => generation.step());
    cuda().synchronize();
    return { offDevice, statistics, grown: cuda().memory().currentBytes - before };
  } finally {
    for (const part of [generation, ...adapters, decoder]) part.dispose();
  }
}

test.each(['float32', 'bfloat16'] as const)(
  'a token of %s texts grows in place, in as many launches for sixteen texts as for one',
  async (dtype) => {
    const [two, four] = [await tokenStep(2, 1, dtype), await tokenStep(4, 1, dtype)];
    const [twoOfAll, fourOfAll] = [await tokenStep(2, 16, dtype), await tokenStep(4, 16, dtype)];
    for (const { offDevice, grown } of [two, four, twoOfAll, fourOfAll]) {
      expect(offDevice.join('\n')).toBe('');
      expect(grown).toBe(0);
    }
    const ofLayer = (four.statistics.launches - two.statistics.launches) / 2;
    expect((fourOfAll.statistics.launches - twoOfAll.statistics.launches) / 2).toBe(ofLayer);
    // The layers copy nothing, and texts are copied together.
    expect({ ...four.statistics, launches: 0 }).toEqual({ ...two.statistics, launches: 0 });
    expect(twoOfAll.statistics.uploads).toBe(two.statistics.uploads);
    // The tokens of all texts, of each a few bytes.
    const oneRead = { downloads: 1, memoryWaits: 0, fullTrims: 0, failedAllocations: 0 };
    expect(two.statistics).toMatchObject({ ...oneRead, downloadedBytes: 16 });
    expect(twoOfAll.statistics).toMatchObject({ ...oneRead, downloadedBytes: 16 * 16 });
  },
);

// test/bench/gpu-arithmetic.mjs has these numbers.
test('a layer of texts with an adapter each launches at most 26 kernels and products', async () => {
  const isAdapted = { isAdapted: true };
  const [two, four] = [await tokenStep(2, 3, 'bfloat16', isAdapted), await tokenStep(4, 3, 'bfloat16', isAdapted)];
  const ofLayer = (four.statistics.launches - two.statistics.launches) / 2;
  expect(ofLayer).toBeLessThanOrEqual(26);
  expect(two.statistics.launches - 2 * ofLayer).toBeLessThanOrEqual(14);
});

test('a drawn token with penalties and log-probabilities is copied like a greedy one', async () => {
  const sampling = { temperature: 0.8, topP: 0.9, repetitionPenalty: 1.1, seed: 3 };
  const greedy = await tokenStep(2, 4, 'float32');
  const drawn = await tokenStep(2, 4, 'float32', { sampling, logprobs: 2 });
  expect(drawn.offDevice.join('\n')).toBe('');
  // Of each text the token, the sum of weights and its logit, and two most probable tokens with theirs.
  expect(drawn.statistics.downloadedBytes).toBe(4 * (16 + 2 * 8));
  const withoutBytes = { downloadedBytes: 0, uploadedBytes: 0 };
  expect({ ...drawn.statistics, ...withoutBytes }).toEqual({ ...greedy.statistics, ...withoutBytes });
});
