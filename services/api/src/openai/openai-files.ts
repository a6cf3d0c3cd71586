import { readManifest } from '@lorasmith/artifacts';
import {
  type Dataset,
  type Job,
  type JobEvent,
  jobOfResultFile,
  type OpenaiFile,
  type Owner,
  ProductError,
  ResultFileId,
  type TrainingResult,
} from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import { Compile } from 'typebox/compile';
import type { DatasetCatalog } from '../datasets/dataset-catalog.js';
import { isRowChange } from '../datasets/map-row.js';

/** A dataset as a file. */
export function fileOfDataset({ id, bytes, name, warnings, created_at: createdAt }: Dataset): OpenaiFile {
  const changes = warnings.filter(({ code }) => isRowChange(code)).map(({ message }) => message);
  return {
    id,
    object: 'file',
    bytes,
    created_at: unixSeconds(createdAt),
    filename: name ?? `${id}.jsonl`,
    purpose: 'fine-tune',
    status: 'processed',
    status_details: changes.length === 0 ? null : changes.join(' '),
  };
}

/** The error for a file that does not exist, or that the caller may not use. */
export function fileNotFound(id: string, param = 'id'): ProductError {
  return new ProductError('dataset_not_found', `There is no file ${JSON.stringify(id.slice(0, 100))}.`, { param });
}

/** A time as the OpenAI API has it: whole seconds since 1970. */
export function unixSeconds(time: string): number {
  return Math.floor(Date.parse(time) / 1000);
}

/** Checks that an id is that of a file of metrics. */
export const resultFileSchema = Compile(ResultFileId);

/** The owner of a file: of its dataset, or of the job whose metrics it has. Undefined if it does not exist. */
export async function ownerOfFile(
  id: string,
  { catalog, jobs }: { catalog: Pick<DatasetCatalog, 'ownerOf'>; jobs: Pick<JobStore, 'ownerOf'> },
): Promise<Owner | undefined> {
  return resultFileSchema.Check(id) ? await jobs.ownerOf(jobOfResultFile(id)) : await catalog.ownerOf(id);
}

/** A file of metrics, complete. */
export interface ResultFile {
  file: OpenaiFile;
  content: Buffer;
}

/**
 * The metrics of jobs that have succeeded, as files. They are made when they are asked for, and always the same while the adapter exists, whose manifest
 * has every step. Without it, they have the steps of which events are kept.
 */
export interface ResultFiles {
  /** @throws ProductError `dataset_not_found` for a job that does not exist, or has not succeeded */
  of(id: ResultFileId): Promise<ResultFile>;
}

export interface ResultFilesOptions {
  jobs: Pick<JobStore, 'getJob' | 'readEvents'>;
  adapters: BundleStore;
}

/** The columns of the OpenAI API. */
const COLUMNS = ['step', 'train_loss', 'train_accuracy', 'valid_loss', 'valid_mean_token_accuracy'];
const FILE_NAME = 'step_metrics.csv';
/** Events read at once. The number of stored events of a job is limited. */
const BATCH = 1_000;

export function createResultFiles({ jobs, adapters }: ResultFilesOptions): ResultFiles {
  return {
    async of(id) {
      const job = await jobs.getJob(jobOfResultFile(id));
      if (job === null || !hasResultFile(job)) throw fileNotFound(id);
      const metrics = new StepMetrics();
      for (let after: string | undefined; ; ) {
        const page = await jobs.readEvents(job.id, { after, limit: BATCH });
        for (const event of page.data) metrics.add(event);
        if (!page.has_more || page.next === null) break;
        after = page.next;
      }
      metrics.addTraining(await trainingOf(adapters, job));
      const content = Buffer.from(metrics.csv());
      const file: OpenaiFile = {
        id,
        object: 'file',
        bytes: content.length,
        created_at: unixSeconds(job.ended_at ?? job.created_at),
        filename: FILE_NAME,
        purpose: 'fine-tune-results',
        status: 'processed',
        status_details: null,
      };
      return { file, content };
    },
  };
}

/** True if there is a file of the job's metrics. */
export function hasResultFile({ kind, status }: Pick<Job, 'kind' | 'status'>): boolean {
  return kind === 'train' && status === 'succeeded';
}

type OfSteps = Pick<TrainingResult, 'losses' | 'accuracies'>;

/** Loss and accuracy of every step, if the manifest has that many; empty otherwise, and for a deleted adapter. */
async function trainingOf(adapters: BundleStore, { adapter }: Job): Promise<OfSteps> {
  const manifest = adapter === null ? null : await readManifest(adapters, adapter).catch(() => null);
  if (manifest?.origin.kind !== 'trained') return { losses: [], accuracies: [] };
  const { losses, accuracies, steps } = manifest.origin.result;
  return losses.length === steps ? { losses, accuracies } : { losses: [], accuracies: [] };
}

interface Metrics {
  loss: number;
  accuracy: number;
}

class StepMetrics {
  readonly #train = new Map<number, Metrics>();
  readonly #valid = new Map<number, Metrics>();

  /** Adds an event. The last one counts for a step that was done again after a restart. */
  add({ type, data }: JobEvent): void {
    if (type === 'step-finished') this.#train.set(data.step, data);
    if (type === 'evaluation-finished') this.#valid.set(data.step, data);
  }

  /** Events of steps are recorded once a second, so the manifest completes them. The first values are those of step 1. */
  addTraining({ losses, accuracies }: OfSteps): void {
    for (const [index, loss] of losses.entries()) this.#train.set(index + 1, { loss, accuracy: accuracies[index]! });
  }

  csv(): string {
    const steps = [...new Set([...this.#train.keys(), ...this.#valid.keys()])].sort((one, other) => one - other);
    const cells = (metrics: Metrics | undefined) => [metrics?.loss ?? '', metrics?.accuracy ?? ''];
    const rows = steps.map((step) =>
      [step, ...cells(this.#train.get(step)), ...cells(this.#valid.get(step))].join(','),
    );
    return `${[COLUMNS.join(','), ...rows].join('\n')}\n`;
  }
}
