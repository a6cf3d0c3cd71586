import type { DecoderArchitecture } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { tinyDecoder } from '../../test/tiny-model.js';
import { stepWork } from './estimate-time.js';

test('adapters of experts compute for the experts that each token passes, in the last layer for tokens with a label', async () => {
  const experts = {
    ...{ layers: [true, true], count: 6, perToken: 3, intermediateSize: 16, renormalized: true, shared: null },
    files: 'each' as const,
  };
  const model = await tinyDecoder('qwen2', null, { experts });
  const architecture = model.architecture as DecoderArchitecture;
  const load = { tokensPerStep: 100, labelsPerStep: 40, squaresPerStep: 1000, microBatchesPerStep: 1 };
  const productsOf = (rank: number) => {
    const targets = [0, 1].map((layer) => {
      const name = `model.layers.${layer}.mlp.experts.down_proj`;
      return { name, in_features: 16, out_features: 32, experts: 6, rank, scale: 2 };
    });
    return stepWork({ architecture, modules: model.modules, targets, recomputedLayers: 0 }, load).products;
  };
  // A product and two gradients of each of A and B, at two operations.
  const perRank = 2 * 3 * 3 * (100 + 40) * (16 + 32);
  expect(productsOf(5) - productsOf(4)).toBeCloseTo(perRank / 1e9, 12);
});
