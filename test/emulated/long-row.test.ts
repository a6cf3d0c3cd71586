import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readModelFolder } from '../../packages/model-folder/src/index.js';
import { type Decoder, LoraAdapter, loadDecoder, tokenBatchOf } from '../../packages/models/src/index.js';
import { chooseKernels, dispose } from '../../packages/tensor/src/index.js';
import { NextToken } from '../../packages/training/src/objectives/next-token/next-token.js';
import { cuda } from './device-watch.js';
import { writeRandomLlama } from './random-llama.js';

const kernels = chooseKernels('fused');

// One row of many tokens: the memory of a step grows with the row, not with its square.

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'emulated-long-'));
});
afterAll(() => rm(root, { recursive: true }));

/** The most memory of the device in a step beyond what the model takes. */
function peakBytes(model: Decoder, adapter: LoraAdapter, length: number): number {
  const ids = Int32Array.from({ length }, (_, i) => (i * 17) % model.architecture.vocabSize);
  // A loss at some tokens: the head is not what this is about.
  const trained = Uint8Array.from({ length }, (_, i) => Number(i % 64 === 5));
  const step = () => {
    const { losses } = new NextToken(model).lossAndGradients(tokenBatchOf([{ ids, trained }]), {
      adapters: [{ adapter }],
    });
    dispose([losses, adapter.takeGradient()]);
  };
  const before = cuda().memory().currentBytes;
  cuda().resetPeakMemory();
  step();
  cuda().synchronize();
  return cuda().memory().peakBytes - before;
}

async function withModel(window: number | null, use: (model: Decoder, adapter: LoraAdapter) => void): Promise<void> {
  const folder = path.join(root, `window-${window}`);
  await writeRandomLlama(folder, { layers: 1, hidden: 16, heads: 1, keyValueHeads: 1, headDim: 16, window });
  const model = await loadDecoder(await readModelFolder(folder), 'bfloat16', kernels);
  const targets = model.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 2 })));
  const adapter = new LoraAdapter(model.groups, { targets, dropout: 0, seed: 1 });
  try {
    use(model, adapter);
  } finally {
    adapter.dispose();
    model.dispose();
  }
}

test('full attention: twice the tokens, at most twice the memory', async () => {
  await withModel(null, (model, adapter) => {
    peakBytes(model, adapter, 256);
    const [short, long] = [peakBytes(model, adapter, 1024), peakBytes(model, adapter, 2048)];
    expect(long).toBeLessThan(2.1 * short);
    // The scores alone, in bfloat16, would be more.
    expect(long).toBeLessThan(2 * 2048 ** 2);
  });
});

test('8,192 tokens in one row, within a window', async () => {
  await withModel(128, (model, adapter) => {
    peakBytes(model, adapter, 256);
    const [short, long] = [peakBytes(model, adapter, 1024), peakBytes(model, adapter, 8192)];
    expect(long).toBeLessThan(8.5 * short);
  });
});
