import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JobSpec, NewJobEvent, TrainingOutcome, UploadedDataset } from '@lorasmith/contracts';
import { type ExampleStore, openExampleStore } from '@lorasmith/planning';
import type { KernelSet } from '@lorasmith/tensor';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import type { BaseModelCache } from '../src/base-model-cache.js';
import type { AskGrader } from '../src/objectives/group-relative/reward-source.js';
import type { PassScheduler } from '../src/shared-pass/pass-scheduler.js';
import { train } from '../src/train.js';
import { writeRows } from './a-job.js';
import { trainAlone } from './train-alone.js';

/** Rows of a dataset with its record. */
export interface StoredRows {
  rowsFile: string;
  dataset: UploadedDataset;
}

export interface RunOptions {
  checkpointFolder?: string;
  initialAdapterFolder?: string | null;
  cache?: BaseModelCache;
  scheduler?: PassScheduler;
  askGrader?: AskGrader;
  onEvent?: (event: NewJobEvent, stop: (reason: 'cancelled' | 'pause') => void) => void;
}

/** The end of a training, with what it left. */
export interface Ran {
  outcome: TrainingOutcome | null;
  error: unknown;
  events: NewJobEvent[];
  outputFolder: string;
  checkpointFolder: string;
}

/** Trainings on a tiny model, in a folder that has all of their files. */
export class TinyTrainings {
  readonly #kernels: KernelSet;
  readonly #root: string;
  readonly #modelFolder: string;
  readonly #examples: ExampleStore;
  #folders = 0;

  private constructor(kernels: KernelSet, root: string, modelFolder: string, examples: ExampleStore) {
    this.#kernels = kernels;
    this.#root = root;
    this.#modelFolder = modelFolder;
    this.#examples = examples;
  }

  /** @param changes of the config.json of its model */
  static async create(kernels: KernelSet, changes: object = {}): Promise<TinyTrainings> {
    const root = await mkdtemp(join(tmpdir(), 'tiny-trainings-'));
    const modelFolder = join(root, 'llama');
    await mkdir(modelFolder);
    await writeTinyLlama(modelFolder);
    const config = join(modelFolder, 'config.json');
    await writeFile(config, JSON.stringify({ ...JSON.parse(await readFile(config, 'utf8')), ...changes }));
    const examples = await openExampleStore({ dataDir: join(root, 'data'), maxBytes: 2 ** 30 });
    return new TinyTrainings(kernels, root, modelFolder, examples);
  }

  async remove(): Promise<void> {
    await rm(this.#root, { recursive: true });
  }

  /** @param letter of the dataset's id, unlike that of any other */
  async store(letter: string, format: UploadedDataset['format'], rows: readonly object[]): Promise<StoredRows> {
    const rowsFile = join(this.#root, `${letter}.jsonl`);
    return { rowsFile, dataset: { ...(await writeRows(rowsFile, format, rows)), id: `ds_${letter.padEnd(24, '0')}` } };
  }

  async run(spec: JobSpec, rows: StoredRows, options: RunOptions = {}): Promise<Ran> {
    const { initialAdapterFolder = null, onEvent, cache, scheduler, askGrader } = options;
    const outputFolder = join(this.#root, `output-${++this.#folders}`);
    const checkpointFolder = options.checkpointFolder ?? join(this.#root, `checkpoints-${this.#folders}`);
    await mkdir(outputFolder);
    const events: NewJobEvent[] = [];
    const stop = new AbortController();
    const pause = new AbortController();
    let [outcome, error]: [TrainingOutcome | null, unknown] = [null, null];
    try {
      const trained = {
        ...rows,
        modelFolder: this.#modelFolder,
        spec,
        examples: this.#examples,
        checkpointFolder,
        outputFolder,
        initialAdapterFolder,
        signal: stop.signal,
        pause: pause.signal,
        onEvent: (event: NewJobEvent) => {
          events.push(event);
          onEvent?.(event, (reason) => (reason === 'pause' ? pause.abort() : stop.abort({ kind: reason })));
        },
        ...(scheduler ? { scheduler } : {}),
        ...(askGrader ? { askGrader } : {}),
      };
      outcome = cache ? await train({ ...trained, cache }) : await trainAlone(this.#kernels, trained);
    } catch (caught) {
      error = caught;
    }
    return { outcome, error, events, outputFolder, checkpointFolder };
  }
}

/** The digest of the weights of its adapter. Throws what it failed with. */
export async function weightsOf({ error, outputFolder }: Ran): Promise<string> {
  if (error !== null) throw error;
  const bytes = await readFile(join(outputFolder, 'adapter_model.safetensors'));
  return createHash('sha256').update(bytes).digest('hex');
}

export function stepsOf({ events }: Ran) {
  return events.flatMap((event) => (event.type === 'step-finished' ? [event.data] : []));
}
