import { type DecoderArchitecture, linearGroups } from '@lorasmith/model-folder';
import { expect, test } from 'vitest';
import { TINY_LAYER, tinyDecoder } from '../../test/tiny-model.js';
import { adapterTraffic, stepWork } from './estimate-time.js';

test('adapters of experts compute for the experts that each token passes, in the last layer for tokens with a label', async () => {
  const experts = {
    ...{ count: 6, perToken: 3, intermediateSize: 16, renormalized: true, shared: null },
    files: 'each' as const,
  };
  const layer = { ...TINY_LAYER, mlp: { kind: 'sparse', experts } as const };
  const model = await tinyDecoder('qwen2', null, { layers: [layer, layer] });
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

test('an adapter that is a part of the frozen products passes the wider side of a group once, for a gradient', async () => {
  const architecture = (await tinyDecoder('qwen2', null)).architecture as DecoderArchitecture;
  const groups = Array.from({ length: architecture.layerCount }, (_, layer) =>
    linearGroups(architecture, layer),
  ).flat();
  const targets = groups.flat().map(({ name, inFeatures, outFeatures }) => {
    return { name, in_features: inFeatures, out_features: outFeatures, rank: 4, scale: 1 };
  });
  const bytesOf = (adapters: 'separate' | 'joint', onlyForward: boolean) =>
    adapterTraffic({ architecture, targets, adapters, onlyForward });
  const sides = groups.map((layers) => {
    const outputs = layers.reduce((sum, { outFeatures }) => sum + outFeatures, 0);
    return [layers[0]!.inFeatures, outputs] as const;
  });
  const bytes = (of: (inputs: number, outputs: number) => number) =>
    2 * sides.reduce((sum, [inputs, outputs]) => sum + of(inputs, outputs), 0);
  expect(bytesOf('separate', true)).toBe(bytes((inputs, outputs) => inputs + 2 * outputs));
  expect(bytesOf('separate', false)).toBe(bytes((inputs, outputs) => 4 * (inputs + outputs)));
  expect(bytesOf('joint', true)).toBe(bytes((inputs, outputs) => 2 * Math.min(inputs, outputs)));
  expect(bytesOf('joint', false)).toBe(
    bytes((inputs, outputs) => 5 * Math.min(inputs, outputs) + Math.max(inputs, outputs)),
  );
});
