import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LoraAdapter } from '../../packages/lora/src/index.js';
import { readModelFolder } from '../../packages/model-folder/src/index.js';
import { Generation, loadDecoder } from '../../packages/models/src/index.js';
import { configureKernels, type FloatDType } from '../../packages/tensor/src/index.js';
import { cuda, watchDevice } from './device-watch.js';
import { writeRandomLlama } from './random-llama.js';

// What a step of generation launches and copies on the card.

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'emulated-generation-'));
  configureKernels('fused');
  for (const layers of [2, 4]) await writeRandomLlama(path.join(root, `layers-${layers}`), { layers });
});
afterAll(async () => {
  configureKernels('raw');
  await rm(root, { recursive: true });
});

/** A step in which each of some texts gets a further token. */
async function tokenStep(layers: number, texts: number, dtype: FloatDType, isAdapted = false) {
  const decoder = await loadDecoder(await readModelFolder(path.join(root, `layers-${layers}`)), dtype);
  const generation = new Generation(decoder, { cacheTokens: 4096, maxTexts: 16 });
  const targets = decoder.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 4, scale: 2 })));
  const adapters = Array.from({ length: isAdapted ? texts : 0 }, (_, seed) => {
    return new LoraAdapter(decoder.groups, { targets, dropout: 0, seed });
  });
  try {
    const tokens = new Array<number>(texts).fill(0);
    for (let text = 0; text < texts; text++) {
      const promptIds = Int32Array.from({ length: 1 + ((5 * text) % 40) }, (_, i) => (3 + text + i) % 50);
      generation.add({ promptIds, adapter: adapters[text] ?? null, maxNewTokens: 100, stopIds: [] }, ({ kind }) => {
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
    // The hidden state, and the most probable token.
    expect(two.statistics).toMatchObject({ downloads: 2, memoryWaits: 0, fullTrims: 0 });
    expect(twoOfAll.statistics).toMatchObject({ downloads: 2, memoryWaits: 0, fullTrims: 0 });
  },
);

// bench/gpu-arithmetic.mjs has these numbers.
test('a layer of texts with an adapter each launches at most 26 kernels and products', async () => {
  const [two, four] = [await tokenStep(2, 3, 'bfloat16', true), await tokenStep(4, 3, 'bfloat16', true)];
  const ofLayer = (four.statistics.launches - two.statistics.launches) / 2;
  expect(ofLayer).toBeLessThanOrEqual(26);
  expect(two.statistics.launches - 2 * ofLayer).toBeLessThanOrEqual(14);
});
