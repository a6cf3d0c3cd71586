import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type JobRequest,
  JobSpec,
  type NewJobEvent,
  objectiveOf,
  type TrainingOutcome,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { openExampleStore } from '@lorasmith/planning';
import { chooseKernels } from '@lorasmith/tensor';
import { Value } from 'typebox/value';
import { writeRows } from './a-job.js';
import { trainAlone } from './train-alone.js';

const kernels = chooseKernels('fused');

const fromRoot = (path: string) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const MODEL = join(process.env.MODELS_DIR ?? fromRoot('models'), 'SmolLM2-135M-Instruct');

/** A job of a folder of examples, by the names of its files. */
export interface ExampleJob {
  folder: `examples/${string}`;
  format: UploadedDataset['format'];
  rows: string;
  heldout: string;
  job: string;
  /** Settings of its training in the place of those of the file. */
  training?: Partial<JobSpec['training']>;
}

/** Trains the job of an example on the demo model with a trainer's kernels, and evaluates it on its held-out rows before and after. */
export async function trainExample(
  { folder, format, rows, heldout, job, training = {} }: ExampleJob,
  onEvent: (event: NewJobEvent) => void = () => {},
): Promise<TrainingOutcome> {
  if (!existsSync(join(MODEL, 'config.json'))) throw new Error(`${MODEL} is missing: npm run setup makes it.`);
  const example = fromRoot(folder);
  const scratch = await mkdtemp(join(tmpdir(), 'example-'));
  try {
    const written = async (name: string, id: string) => {
      const lines = (await readFile(join(example, name), 'utf8')).trimEnd().split('\n');
      const rowsFile = join(scratch, name);
      const parsed = lines.map((line) => JSON.parse(line) as object);
      return { rowsFile, dataset: { ...(await writeRows(rowsFile, format, parsed)), id: `ds_${id.repeat(24)}` } };
    };
    const base = await written(rows, '0');
    const validation = await written(heldout, '1');
    const request = JSON.parse(await readFile(join(example, job), 'utf8')) as JobRequest;
    const named = { dataset: base.dataset.id, validation: { dataset: validation.dataset.id } };
    const settings = { training: { ...request.training, ...training } };
    const { objective, ...given } = { ...request, ...named, ...settings };
    const spec = Value.Parse(JobSpec, Value.Default(JobSpec, { ...given, objective: objectiveOf(objective!) }));
    const outputFolder = join(scratch, 'output');
    await mkdir(outputFolder);
    return await trainAlone(kernels, {
      ...base,
      spec,
      validation,
      modelFolder: MODEL,
      examples: await openExampleStore({ dataDir: scratch, maxBytes: 2 ** 26 }),
      checkpointFolder: join(scratch, 'checkpoints'),
      outputFolder,
      initialAdapterFolder: null,
      signal: new AbortController().signal,
      onEvent,
    });
  } finally {
    await rm(scratch, { recursive: true });
  }
}
