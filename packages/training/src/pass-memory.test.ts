import { fileURLToPath } from 'node:url';
import {
  type DecoderArchitecture,
  type ModelFolder,
  readModelFolder,
  withBaseQuantization,
} from '@lorasmith/model-folder';
import { LoraAdapter, loadDecoder, tokenBatchOf } from '@lorasmith/models';
import { decodedMemory, passBytes, SCORES_PER_BLOCK } from '@lorasmith/planning';
import { chooseKernels, engine, type FloatDType, MOST_SCORES } from '@lorasmith/tensor';
import { describe, expect, test } from 'vitest';
import { peakBytes } from '../../../test/numeric/live-bytes.js';
import { usualCases } from '../../../test/usual-cases.js';
import { withProbeExperts, withProbeGemma4, withProbeLatent } from '../test/probe-models.js';
import { NextToken } from './objectives/next-token/next-token.js';
import { takeBatchLoss } from './objectives/objective.js';
import { withProbeModel } from './probe/measure-machine.js';

test('the estimate knows the blocks of attention in raw ops', () => {
  expect(SCORES_PER_BLOCK).toBe(MOST_SCORES);
});

test.each(['fused', 'raw'] as const)(
  'the estimate knows which products decode quantized weights on the way: %s',
  async (source) => {
    const kernels = chooseKernels(source);
    const model = await readModelFolder(
      fileURLToPath(new URL('../../../test/fixtures/quantized/nf4-mixed/base', import.meta.url)),
    );
    for (const dtype of ['float32', 'bfloat16'] as const) {
      // Those that compute each row by itself.
      const decodes = engine.kind === 'cpu' && kernels.rowsAreIndependent(dtype);
      expect(decodedMemory(model, dtype, kernels.library) === 0, dtype).toBe(decodes);
    }
  },
);

interface BatchSize {
  rows: number;
  length: number;
  /** Tokens that all rows begin with, and share. @defaultValue 0 */
  prompt?: number;
}

const SIZES: BatchSize[] = [
  { rows: 4, length: 64 },
  { rows: 2, length: 128 },
  { rows: 1, length: 640 }, // too long to keep weights of attention
];

/** A pair of answers, and a group of them. */
const SHARED_SIZES: BatchSize[] = [
  { rows: 2, length: 128, prompt: 64 },
  { rows: 8, length: 64, prompt: 56 },
];

interface PassCase {
  kernels: 'fused' | 'raw';
  precision: FloatDType;
  /** The names of the adapted modules. */
  adapted: RegExp;
  recomputedLayers: number;
  /** The most that the estimate may be, as a multiple of what is held. */
  most: number;
  /** @defaultValue SIZES */
  sizes?: readonly BatchSize[];
}

/** A pass holds as many bytes as the estimate says, or a little less. */
async function expectEstimated(
  folder: ModelFolder,
  { kernels: source, precision, adapted, recomputedLayers, most, sizes = SIZES }: PassCase,
): Promise<void> {
  const kernels = chooseKernels(source);
  const decoder = await loadDecoder(folder, precision, kernels);
  const targets = [...folder.modules, ...folder.parameters, folder.headModule!]
    .filter(({ name }) => adapted.test(name))
    .map((module) => ({ ...module, rank: 8, scale: 1 }));
  const adapter = new LoraAdapter(decoder.groups, { targets, dropout: 0, seed: 0 });
  const objective = new NextToken(decoder);
  for (const { rows, length, prompt = 0 } of sizes) {
    const batch = tokenBatchOf(
      Array.from({ length: rows }, (_row, row) => ({
        ids: Int32Array.from(
          { length },
          (_token, i) => ((i < prompt ? 0 : row * 31) + i * 17) % decoder.architecture.vocabSize,
        ),
        trained: new Uint8Array(length).fill(1, prompt),
      })),
      () => prompt > 0,
    );
    // The adapter's matrices, which some engines make in the first pass, are not the pass's: they are kept.
    objective.loss(batch, { adapters: [{ adapter }] });
    const held = peakBytes(() => {
      takeBatchLoss(objective.lossAndGradients(batch, { adapters: [{ adapter }], recomputedLayers }));
      adapter.takeGradient().dispose();
    });
    const memory = {
      architecture: folder.architecture as DecoderArchitecture,
      weightBytes: 0,
      decodedBytes: decodedMemory(folder, precision, kernels.library),
      targets,
      trainedParameters: 0,
      optimizer: 'adamw' as const,
      precision,
      recomputedLayers,
      dropout: 0,
      engine: {
        fused: source === 'fused',
        countsProcess: false,
        reuses: true,
        keepsStateGradients: false,
        weightSlack: 1,
        slack: 1,
      },
      logitsInChunk: decoder.head.chunkSize * decoder.architecture.vocabSize,
      sampleCacheBytes: 0,
    };
    const mostTokens = batch.ids.length;
    const mostRepeated = rows * length - mostTokens;
    const load = { mostTokens, mostRepeated, mostLabels: batch.labels.length, longestRow: length };
    const share = passBytes(memory, load) / held;
    expect(share, `${rows} rows of ${length}, ${prompt} of them shared`).toBeGreaterThan(1);
    expect(share, `${rows} rows of ${length}, ${prompt} of them shared`).toBeLessThan(most);
  }
  adapter.dispose();
  decoder.dispose();
}

// A GPU's memory cannot be watched here, but the same ops ask for the same bytes everywhere.
describe.each(
  usualCases(
    [
      ['fused', 'bfloat16'],
      ['raw', 'float32'],
      ['fused', 'float32'],
    ] as const,
    1,
  ),
)('a pass with %s kernels in %s', (kernels, precision) => {
  test.each(
    usualCases(
      [
        ['all layers adapted, one computed again', /_proj$/, 1, 1.25],
        ['the output head too', /_proj$|^lm_head$/, 0, 1.25],
        ['all layers adapted, computed again', /_proj$/, Number.POSITIVE_INFINITY, 1.25],
        ['all layers adapted', /_proj$/, 0, 1.25],
        ['two layers adapted', /[qv]_proj$/, 0, 1.25],
        // The estimate counts a backward pass of the layers, too.
        ['the output head alone', /^lm_head$/, 0, 2],
      ] as const,
      2,
    ),
  )(
    '%s: a pass holds as many bytes as the estimate says, or a little less',
    async (_, adapted, recomputedLayers, most) => {
      await withProbeModel((folder) =>
        expectEstimated(folder, { kernels, precision, adapted, recomputedLayers, most }),
      );
    },
  );
});

describe.each(
  usualCases(
    [
      ['fused', 'bfloat16', 'narrow values'],
      ['fused', 'float32', 'wide values'],
      ['raw', 'float32', 'narrow values'],
      ['raw', 'bfloat16', 'wide values'],
    ] as const,
    1,
  ),
)('a pass of latent attention with %s kernels in %s, %s', (kernels, precision, kind) => {
  test.each(
    usualCases(
      [
        ['all layers adapted', /_proj|_mqa$/, 0, 1.25],
        ['all layers adapted, computed again', /_proj|_mqa$/, Number.POSITIVE_INFINITY, 1.35],
        ['one layer adapted', /q_b_proj$/, 0, 1.25],
      ] as const,
      1,
    ),
  )('%s: as many bytes as the estimate says, or a little less', async (_, adapted, recomputedLayers, most) => {
    const work = { kernels, precision, adapted, recomputedLayers, most };
    await withProbeLatent((folder) => expectEstimated(folder, work), kind);
  });
});

// Engines with raw kernels refuse these models.
describe.each(
  usualCases(
    [
      ['bfloat16', 'small'],
      ['float32', 'wide heads'],
      ['bfloat16', 'experts'],
      ['float32', 'small'],
      ['bfloat16', 'wide heads'],
      ['float32', 'experts'],
    ] as const,
    1,
  ),
)('a pass of Gemma 4 with fused kernels in %s, %s', (precision, kind) => {
  test.each(
    usualCases(
      [
        ['the inputs of layers too', /_proj$|_gate$|_projection$/, 0, 1.25],
        ['all layers adapted, computed again', /_proj$/, Number.POSITIVE_INFINITY, 1.35],
        ['all layers adapted', /_proj$/, 0, 1.25],
      ] as const,
      1,
    ),
  )('%s: as many bytes as the estimate says, or a little less', async (_, adapted, recomputedLayers, most) => {
    const work = { kernels: 'fused' as const, precision, adapted, recomputedLayers, most };
    await withProbeGemma4((folder) => expectEstimated(folder, work), kind);
  });
});

describe.each(
  usualCases(
    [
      ['fused', 'bfloat16'],
      ['fused', 'float32'],
      ['raw', 'bfloat16'],
    ] as const,
    1,
  ),
)('a pass of a mixture of experts with %s kernels in %s', (kernels, precision) => {
  test.each(
    usualCases(
      [
        ['everything adapted, computed again', /_proj$|_gate$/, Number.POSITIVE_INFINITY, 1.4],
        ['experts adapted', /\.experts\./, 0, 1.35],
        ['all layers adapted, computed again', /^(?!.*\.experts\.).*(_proj|_gate)$/, Number.POSITIVE_INFINITY, 1.4],
        ['all layers adapted', /^(?!.*\.experts\.).*(_proj|_gate)$/, 0, 1.35],
        ['attention adapted', /[qv]_proj$/, 0, 1.35],
        ['gate and up of experts adapted', /\.experts\.gate_up_proj$/, 0, 1.35],
        ['down of experts adapted', /\.experts\.down_proj$/, 0, 1.35],
      ] as const,
      2,
    ),
  )('%s: as many bytes as the estimate says, or a little less', async (_, adapted, recomputedLayers, most) => {
    await withProbeExperts((folder) =>
      expectEstimated(folder, { kernels, precision, adapted, recomputedLayers, most }),
    );
  });

  test('of experts in NF4: as many bytes as the estimate says, or a little less', async () => {
    const work = { kernels, precision, adapted: /_proj$/, recomputedLayers: 0, most: 1.35 };
    await withProbeExperts((folder) => expectEstimated(withBaseQuantization(folder, 'nf4'), work));
  });
});

describe.each(
  usualCases(
    [
      ['a small model', withProbeModel],
      ['latent attention', (use: (folder: ModelFolder) => Promise<void>) => withProbeLatent(use, 'wide values')],
      ['Gemma 4 with experts', (use: (folder: ModelFolder) => Promise<void>) => withProbeGemma4(use, 'experts')],
      ['a mixture of experts', withProbeExperts],
    ] as const,
    1,
  ),
)('a pass of rows that share a prompt: %s', (_, withModel) => {
  test.each([
    ['all layers adapted', 0, 1.3],
    ['all layers adapted, computed again', Number.POSITIVE_INFINITY, 1.6],
  ] as const)('%s: as many bytes as the estimate says, or a little less', async (_, recomputedLayers, most) => {
    const work = { kernels: 'fused', precision: 'bfloat16', adapted: /_proj$|_mqa$/, recomputedLayers } as const;
    await withModel((folder) => expectEstimated(folder, { ...work, most, sizes: SHARED_SIZES }));
  });
});
