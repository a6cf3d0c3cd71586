import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readModelFolder } from '@lorasmith/model-folder';
import { ALL_LAYERS, type GroupAdapter, LoraAdapter, loadDecoder, type ModelAdapter } from '@lorasmith/models';
import { readPeftFolder } from '@lorasmith/peft-files';
import { chooseKernels, liveTensorCount, toFloat32Array } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { differenceByLargest } from '../../../test/numeric/greatest-difference.js';
import { HAS_FEW_CASES, oneOfEachStructure, TESTED_KERNELS } from '../../../test/usual-cases.js';
import { ReferenceBatch } from './check-reference/reference-case.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { takeBatchLoss } from './objectives/objective.js';

const FIXTURES = fileURLToPath(new URL('../../../test/fixtures', import.meta.url));
const CASES = [
  ...['llama-tied', 'llama-untied-all-linear', 'qwen2'].map((name) => join(FIXTURES, 'reference', name)),
  ...oneOfEachStructure(readdirSync(join(FIXTURES, 'families'))).map((name) => join(FIXTURES, 'families', name)),
  ...['nf4-nested', 'fp8-blocks'].map((name) => join(FIXTURES, 'quantized', name)),
];

describe.each(CASES.map((folder) => ({ name: folder.slice(FIXTURES.length + 1), folder })))('$name', ({ folder }) => {
  test.each(TESTED_KERNELS)(
    'layers computed again give the gradients of kept ones, dropout included, with %s kernels',
    async (source) => {
      const kernels = chooseKernels(source);
      const model = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32', kernels);
      const initial = await readPeftFolder(join(folder, 'adapter_init'));
      const adapter = new LoraAdapter(model.groups, {
        targets: [...initial.modules].map(([name, { rank, scale }]) => ({ name, rank, scale })),
        dropout: 0.2,
        seed: 3,
        initial,
      });
      const batch = (await ReferenceBatch.read(folder)).asTokenBatch();
      const objective = new NextToken(model);
      const run = (recomputedLayers: number) => {
        const pass = objective.lossAndGradients(batch, {
          adapters: [{ adapter, dropoutSeed: [3, 1] }],
          recomputedLayers,
        });
        const gradient = adapter.takeGradient();
        const numbers = toFloat32Array(gradient);
        gradient.dispose();
        return { ...takeBatchLoss(pass), numbers };
      };
      const kept = run(0);
      const handles = liveTensorCount();
      // Both ends of what an estimate may choose, and between them a part of the layers.
      for (const recomputedLayers of HAS_FEW_CASES ? [1] : [1, 2, ALL_LAYERS]) {
        const again = run(recomputedLayers);
        expect(liveTensorCount()).toBe(handles);
        // The same bits, where each row of a kernel is computed by itself.
        if (source === 'fused') expect(again).toEqual(kept);
        expect(again.lossSum).toBeCloseTo(kept.lossSum, 4);
        expect(differenceByLargest(again.numbers, kept.numbers)).toBeLessThan(1e-5);
      }
      expect(kept.numbers.some((value) => value !== 0)).toBe(true);
      adapter.dispose();
      model.dispose();
    },
  );
});

/** An adapter that notes how many tensors are alive whenever a pass reaches a group, forward and backward. */
function counting(adapter: ModelAdapter, counts: number[]): ModelAdapter {
  const countingAt = (acting: GroupAdapter): GroupAdapter => ({
    trained: acting.trained,
    forward(...args) {
      counts.push(liveTensorCount());
      return acting.forward(...args);
    },
    backward(...args) {
      counts.push(liveTensorCount());
      return acting.backward(...args);
    },
  });
  return {
    at(group) {
      const acting = adapter.at(group);
      return acting && countingAt(acting);
    },
  };
}

test.each([0, ALL_LAYERS])(
  'dropout keeps no tensor that a training without it would not, recomputed layers: %s',
  async (recomputedLayers) => {
    const folder = join(FIXTURES, 'reference', 'llama-untied-all-linear');
    const model = await loadDecoder(await readModelFolder(join(folder, 'base')), 'float32', chooseKernels('raw'));
    const objective = new NextToken(model);
    const batch = (await ReferenceBatch.read(folder)).asTokenBatch();
    const liveWith = (dropout: number) => {
      const targets = model.groups.flatMap(({ modules }) => modules.map(({ name }) => ({ name, rank: 2, scale: 1 })));
      const adapter = new LoraAdapter(model.groups, { targets, dropout, seed: 3 });
      const pass = (acting: ModelAdapter) => {
        takeBatchLoss(
          objective.lossAndGradients(batch, { adapters: [{ adapter: acting, dropoutSeed: [0, 0] }], recomputedLayers }),
        );
        adapter.takeGradient().dispose();
      };
      pass(adapter); // makes the constants it needs
      const before = liveTensorCount();
      const counts: number[] = [];
      pass(counting(adapter, counts));
      adapter.dispose();
      return counts.map((count) => count - before);
    };
    expect(liveWith(0.2)).toEqual(liveWith(0));
    model.dispose();
  },
);
