import { fileURLToPath } from 'node:url';
import { type ModelFolder, readModelFolder } from '@lorasmith/model-folder';
import { type Decoder, LoraAdapter, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { stepWork } from '@lorasmith/planning';
import { chooseKernels, dispose, observeOps } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { NextToken } from '../objectives/next-token/next-token.js';

// The products of a step are counted, so that a wrong estimate of its time is one of the rates, and not of the work.

/** No size of the model has this factor, so a product with it is one of an adapter. */
const RANK = 7;
const [ROWS, LENGTH] = [2, 10];

let folder: ModelFolder;
let decoder: Decoder;
beforeAll(async () => {
  const kernels = chooseKernels('raw');
  folder = await readModelFolder(
    fileURLToPath(new URL('../../../../test/fixtures/reference/llama-tied/base', import.meta.url)),
  );
  decoder = await loadDecoder(folder, 'float32', kernels);
});
afterAll(() => {
  decoder.dispose();
});

test.each([
  ['q and v', /[qv]_proj$/, 0],
  ['all layers', /_proj$/, 0],
  ['all layers, which are computed again', /_proj$/, 3],
  ['all layers, the lowest of which is computed again', /_proj$/, 1],
  ['the upper layers', /\.[12]\..*_proj$/, 0],
  ['the upper layers, which are computed again', /\.[12]\..*_proj$/, 3],
  ['the output head', /^lm_head$/, 0],
  ['the output head, with layers that need not be computed again', /^lm_head$/, 3],
])(
  'the frozen products of a step with adapters on %s, and of an evaluation, are those of the estimate',
  (_, names, recomputedLayers) => {
    const targets = [...folder.modules, folder.headModule!]
      .filter(({ name }) => names.test(name))
      .map((module) => ({ ...module, rank: RANK, scale: 1 }));
    const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
    onTestFinished(() => adapter.dispose());
    const ids = Int32Array.from({ length: LENGTH }, (_id, i) => i);
    const row = { ids, trained: new Uint8Array(LENGTH).fill(1) };
    const batch = tokenBatchOf(Array.from({ length: ROWS }, () => row));
    const work = { architecture: decoder.architecture, modules: folder.modules, recomputedLayers };
    const tokens = ROWS * LENGTH;
    const load = {
      ...{ tokensPerStep: tokens, labelsPerStep: tokens - ROWS },
      ...{ squaresPerStep: ROWS * LENGTH ** 2, microBatchesPerStep: 1 },
    };
    const withoutAdapters = targets.map((target) => ({ ...target, rank: 0 }));
    const objective = new NextToken(decoder);
    const options = { adapters: [{ adapter }], recomputedLayers };
    let counted = 0;
    observeOps(({ name, inputs: [a, b], outputs: [product] }) => {
      if (name !== 'MatMul') return;
      const sizes = [a!, b!, product!].map(({ shape }) => shape.reduce((one, other) => one * other, 1));
      const isOfAdapter = [a!, b!].some(({ shape }) => shape.some((size) => size % RANK === 0));
      // Of [m, k], [k, n] and [m, n]: 2 m k n.
      if (!isOfAdapter) counted += 2 * Math.sqrt(sizes.reduce((one, other) => one * other, 1));
    });
    onTestFinished(() => observeOps(null));
    const { losses, correct } = objective.lossAndGradients(batch, options);
    dispose([losses, correct]);
    adapter.takeGradient().dispose();
    const { products } = stepWork({ ...work, targets: withoutAdapters }, load);
    expect(counted / 1e9).toBeCloseTo(products, 12);

    counted = 0;
    objective.loss(batch, options);
    const { products: ofEvaluation } = stepWork({ ...work, targets: withoutAdapters, onlyForward: true }, load);
    expect(counted / 1e9).toBeCloseTo(ofEvaluation, 12);
  },
);
