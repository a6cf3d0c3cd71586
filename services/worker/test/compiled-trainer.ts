import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChildProgram } from '@lorasmith/child-processes';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import type { TrainOrder } from '../src/trainer/messages.js';
import { kernelsArgument, settingsArgument } from '../src/trainer/trainer-program.js';
import { aDataset, ROWS } from './a-dataset.js';
import { aJobSpec } from './a-job-spec.js';

const SETTINGS = {
  passTokens: 1024,
  generationShare: 0.25,
  generationMemory: { cacheBytes: 2 ** 24, adapterBytes: 2 ** 24 },
};

/** The compiled trainer on the processor. */
export const COMPILED_TRAINER = {
  file: fileURLToPath(new URL('../dist/trainer/child-main.js', import.meta.url)),
  arguments: ['cpu', kernelsArgument(null), settingsArgument(SETTINGS)],
  environment: process.env,
} satisfies ChildProgram;

/** The record of a dataset with these rows. */
export function datasetOf(rows: string) {
  const sha256 = createHash('sha256').update(rows).digest('hex');
  return aDataset({ sha256, rows: rows.split('\n').length - 1, bytes: Buffer.byteLength(rows) });
}

/** An order to train a tiny model on these rows. @param folder receives the model, the rows and what is trained */
export async function aTinyTrainOrder(folder: string, steps: number, rows = ROWS): Promise<TrainOrder> {
  const paths = {
    modelFolder: path.join(folder, 'tiny-llama'),
    rowsFile: path.join(folder, 'rows.jsonl'),
    checkpointFolder: path.join(folder, 'checkpoints'),
    outputFolder: path.join(folder, 'output'),
    initialAdapterFolder: null,
  };
  await writeTinyLlama(paths.modelFolder);
  await writeFile(paths.rowsFile, rows);
  await mkdir(paths.outputFolder);
  const { training, ...spec } = aJobSpec('', { base_model: 'tiny-llama' });
  return {
    kind: 'train',
    job: 'job_0123456789abcdef01234567',
    spec: {
      ...spec,
      validation: { split: 0.25, dataset: null },
      training: { ...training, max_steps: steps, batch_size: 2, max_seq_length: 64, eval_every_steps: 1 },
    },
    dataset: datasetOf(rows),
    validation: null,
    machine: null,
    tokens: { dataDir: folder, maxBytes: 2 ** 30 },
    weightDigests: path.join(folder, 'weight-digests'),
    share: { key: '', keyWeight: 1, jobWeight: 1 },
    rungStep: null,
    paths,
  };
}
