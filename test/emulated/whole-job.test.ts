import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mergeModel } from '../../packages/export/src/index.js';
import { readModelFolder } from '../../packages/model-folder/src/index.js';
import { generateTexts, loadDecoder } from '../../packages/models/src/index.js';
import { readPeftFolder } from '../../packages/peft-files/src/index.js';
import { type ExampleStore, openExampleStore } from '../../packages/planning/src/index.js';
import { chooseKernels, type FloatDType, liveTensorCount } from '../../packages/tensor/src/index.js';
import { aJob, writeRows } from '../../packages/training/test/a-job.js';
import { classifierRows, writeTinyClassifier } from '../../packages/training/test/tiny-classifier.js';
import { trainAlone } from '../../packages/training/test/train-alone.js';
import { CHARACTERS, writeFamilyModel } from '../family-models.mjs';
import { writeTinyLlama } from '../tiny-llama.js';
import { cuda, watchDevice } from './device-watch.js';

const kernels = chooseKernels('fused');

// A job from its rows to its adapter: evaluation, training, checkpoints and the checks before publishing; then its merge and answers.

/**
 * Several ropes, windows and names of a composite; norms of branches, and of all queries and keys; an adapter on a tied head with a
 * factor of its logits; linear attention.
 */
const FAMILIES = ['gemma3', 'olmo3', 'head-tied', 'qwen3_5'] as const;
type Base = 'llama' | 'classifier' | (typeof FAMILIES)[number];

let root: string;
let examples: ExampleStore;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'emulated-job-'));
  examples = await openExampleStore({ dataDir: path.join(root, 'data'), maxBytes: 2 ** 30 });
  await writeTinyLlama(path.join(root, 'llama'));
  for (const name of FAMILIES) await writeFamilyModel(name, path.join(root, name));
  await mkdir(path.join(root, 'classifier'));
  await writeTinyClassifier(path.join(root, 'classifier'));
});
afterAll(() => rm(root, { recursive: true }));

const CONVERSATIONS = Array.from({ length: 10 }, (_, i) => ({
  prompt: `count to ${i % 5}`,
  completion: Array.from({ length: (i % 5) + 1 }, (_number, number) => number).join(' '),
}));

/** The models of the families have a token for each of these letters. */
const WORDS = Array.from({ length: 10 }, (_, i) => ({
  prompt: CHARACTERS.slice(i, i + 4).join(''),
  completion: CHARACTERS.slice(3 * i, 3 * i + 6 + i).join(''),
}));

async function job(base: Base, precision: FloatDType): Promise<string> {
  const outputFolder = path.join(root, `output-${++folders}`);
  await mkdir(outputFolder);
  const rowsFile = path.join(outputFolder, 'rows.jsonl');
  const dataset =
    base === 'classifier'
      ? await writeRows(rowsFile, 'features', classifierRows(20))
      : await writeRows(rowsFile, 'prompt_completion', base === 'llama' ? CONVERSATIONS : WORDS);
  await trainAlone(kernels, {
    spec: aJob({
      lora: { dropout: 0.1, ...(base === 'head-tied' ? { target_modules: ['q_proj', 'lm_head'] } : {}) },
      validation: { split: 0.2 },
      training: { precision, epochs: 1, checkpoint_every_steps: 1, recompute: 'always' },
    }),
    modelFolder: path.join(root, base),
    dataset,
    rowsFile,
    examples,
    checkpointFolder: path.join(outputFolder, 'checkpoints'),
    outputFolder,
    initialAdapterFolder: null,
    machine: null,
    signal: new AbortController().signal,
    onEvent() {},
  });
  return outputFolder;
}

const bytesOf = (folder: string) => readFile(path.join(folder, 'adapter_model.safetensors'));

describe.each([
  ['llama', 'float32'],
  ['llama', 'bfloat16'],
  ['gemma3', 'float32'],
  ['olmo3', 'bfloat16'],
  ['head-tied', 'float32'],
  ['head-tied', 'bfloat16'],
  ['qwen3_5', 'float32'],
  ['qwen3_5', 'bfloat16'],
] as const)('a job on %s in %s', (base, precision) => {
  let folder: string;

  test('no op of its training, evaluations and checks runs on the CPU', async () => {
    const { offDevice, ops, result } = await watchDevice(() => job(base, precision));
    folder = result;
    // A job on the head and the queries has fewer than others.
    expect(ops).toBeGreaterThan(base === 'head-tied' ? 500 : 1000);
    expect(offDevice.join('\n')).toBe('');
  });

  test('the same job twice gives the same bytes, and leaves no memory of the device in use', async () => {
    const [bytes, tensors] = [cuda().memory().currentBytes, liveTensorCount()];
    const again = await job(base, precision);
    expect(await bytesOf(again)).toEqual(await bytesOf(folder));
    expect(liveTensorCount()).toBe(tensors);
    cuda().synchronize();
    expect(cuda().memory().currentBytes).toBe(bytes);
  });

  test('no op of its merge runs on the CPU', async () => {
    const outputFolder = path.join(root, `merged-${++folders}`);
    await mkdir(outputFolder);
    const { offDevice } = await watchDevice(async () => {
      const [model, adapter] = [await readModelFolder(path.join(root, base)), await readPeftFolder(folder)];
      await mergeModel({ model, adapter, outputFolder });
    });
    expect(offDevice.join('\n')).toBe('');
  });

  test('no op of a generation runs on the CPU', async () => {
    const { offDevice, result } = await watchDevice(async () => {
      const decoder = await loadDecoder(await readModelFolder(path.join(root, base)), precision, kernels);
      try {
        const prompts = [[5, 17, 50], [3], [7, 8, 9, 10, 11, 12, 13]].map((ids) => Int32Array.from(ids));
        return generateTexts(decoder, prompts, { maxNewTokens: 8, stopIds: [] });
      } finally {
        decoder.dispose();
      }
    });
    expect(result.map(({ length }) => length)).toEqual([8, 8, 8]);
    expect(offDevice.join('\n')).toBe('');
  });
});

test('no op of a classifier’s job runs on the CPU', async () => {
  const { offDevice } = await watchDevice(() => job('classifier', 'float32'));
  expect(offDevice.join('\n')).toBe('');
});
