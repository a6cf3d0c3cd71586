import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BaseQuantization, JobSpec, UploadedDataset } from '@lorasmith/contracts';
import { mergeModel } from '@lorasmith/export';
import { readModelFolder, withBaseQuantization } from '@lorasmith/model-folder';
import { type ExampleStore, openExampleStore } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeCharacterTokenizer } from '../../../test/family-models.mjs';
import { eachByItself, SMALL_MIXTURE, writeRandomModel } from '../../../test/random-model.js';
import { aJob, writeRows } from '../test/a-job.js';
import { BaseModelCache } from './base-model-cache.js';
import { PassScheduler } from './shared-pass/pass-scheduler.js';
import { train } from './train.js';

const kernels = chooseKernels('fused');

// A job on experts that are quantized when they are loaded is one on the model of their decoded weights, up to the bits of its adapter.

const PARAMETERS = ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj'];

let root: string;
let dataset: UploadedDataset;
let examples: ExampleStore;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'quantized-experts-'));
  examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
  // The files have each expert by itself, and are as large as its dtype.
  await writeRandomModel(join(root, 'original'), SMALL_MIXTURE, { hasTensor: eachByItself, dtype: 'BF16' });
  await writeCharacterTokenizer(join(root, 'original'));
  const model = withBaseQuantization(await readModelFolder(join(root, 'original')), 'nf4');
  await mkdir(join(root, 'decoded'));
  const adapter = { modules: new Map() } as unknown as Parameters<typeof mergeModel>[0]['adapter'];
  await mergeModel({ model, adapter, outputFolder: join(root, 'decoded') });
  await writeCharacterTokenizer(join(root, 'decoded'));
  const rows = Array.from({ length: 8 }, (_, i) => ({
    prompt: `countTo${i % 5}`,
    completion: Array.from({ length: 2 * (i % 5) + 1 }, (_unused, number) => number).join('x'),
  }));
  dataset = await writeRows(join(root, 'rows.jsonl'), 'prompt_completion', rows);
});

afterAll(async () => {
  await rm(root, { recursive: true });
});

/** The adapters of jobs that share a base model, and its passes. */
async function adaptersOf(
  folder: 'original' | 'decoded',
  base_quantization: BaseQuantization,
  loras: readonly Partial<JobSpec['lora']>[],
): Promise<Buffer[]> {
  const cache = new BaseModelCache(kernels);
  const scheduler = new PassScheduler({ passTokens: 4096 });
  const numbers = loras.map(async (lora) => {
    const outputFolder = join(root, `output-${++folders}`);
    const checkpointFolder = join(root, `checkpoints-${folders}`);
    await mkdir(outputFolder);
    await train({
      spec: aJob({ lora: { r: 4, ...lora }, training: { epochs: 1, precision: 'bfloat16', base_quantization } }),
      ...{ modelFolder: join(root, folder), dataset, examples, checkpointFolder, outputFolder, cache, scheduler },
      rowsFile: join(root, 'rows.jsonl'),
      initialAdapterFolder: null,
      signal: new AbortController().signal,
      onEvent() {},
    });
    return await readFile(join(outputFolder, 'adapter_model.safetensors'));
  });
  const adapters = await Promise.all(numbers);
  cache.dispose();
  return adapters;
}

const JOBS = [{ target_parameters: PARAMETERS }, { r: 2, target_modules: ['q_proj'], target_parameters: PARAMETERS }];

test('a job on experts in NF4 has the adapter of one on their decoded weights, alone and in shared passes', async ({
  skip,
}) => {
  if (!kernels.rowsAreIndependent('bfloat16')) skip('The products of this processor depend on the number of rows.');
  const ofDecoded = await adaptersOf('decoded', 'none', JOBS);
  const alone = [
    ...(await adaptersOf('original', 'nf4', JOBS.slice(0, 1))),
    ...(await adaptersOf('original', 'nf4', JOBS.slice(1))),
  ];
  const together = await adaptersOf('original', 'nf4', JOBS);
  const [exact] = await adaptersOf('original', 'none', JOBS.slice(0, 1));
  for (const [i, own] of alone.entries()) {
    expect(Buffer.compare(own, ofDecoded[i]!), `job ${i}, decoded`).toBe(0);
    expect(Buffer.compare(own, together[i]!), `job ${i}, together`).toBe(0);
  }
  expect(Buffer.compare(alone[0]!, exact!)).not.toBe(0);
});
