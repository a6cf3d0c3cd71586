import { readManifest } from '@lorasmith/artifacts';
import { type Job, type JobEvent, jobOfResultFile, type OpenaiFile, type ResultFileId } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/job-store';
import type { BundleStore } from '@lorasmith/storage';
import { fileNotFound, unixSeconds } from './openai-file.js';

export interface ResultFile {
  file: OpenaiFile;
  content: Buffer;
}

/** The metrics of jobs that have succeeded, as files. They are made when they are asked for, and always the same. */
export interface ResultFiles {
  /** @throws ProductError `dataset_not_found` for a job that does not exist, or has not succeeded */
  of(id: ResultFileId): Promise<ResultFile>;
}

export interface ResultFilesOptions {
  jobs: Pick<JobStore, 'getJob' | 'readEvents'>;
  adapters: BundleStore;
}

/** The columns of the OpenAI API. Accuracies are not measured, so theirs are empty. */
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
      metrics.addLosses(await lossesOf(adapters, job));
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

export function hasResultFile({ kind, status }: Pick<Job, 'kind' | 'status'>): boolean {
  return kind === 'train' && status === 'succeeded';
}

/** The loss of every step, if the manifest has that many; empty otherwise, and for a deleted adapter. */
async function lossesOf(adapters: BundleStore, { adapter }: Job): Promise<number[]> {
  const manifest = adapter === null ? null : await readManifest(adapters, adapter).catch(() => null);
  if (manifest?.origin.kind !== 'trained') return [];
  const { losses, steps } = manifest.origin.result;
  return losses.length === steps ? losses : [];
}

class StepMetrics {
  readonly #trainLoss = new Map<number, number>();
  readonly #validLoss = new Map<number, number>();

  /** Of a step that was done again after a restart, the last event counts. */
  add(event: JobEvent): void {
    if (event.type === 'step-finished') this.#trainLoss.set(event.data.step, event.data.loss);
    if (event.type === 'evaluation-finished') this.#validLoss.set(event.data.step, event.data.loss);
  }

  /** Events of steps are recorded once a second, so the losses complete them. @param losses - The first is that of step 1. */
  addLosses(losses: readonly number[]): void {
    for (const [index, loss] of losses.entries()) this.#trainLoss.set(index + 1, loss);
  }

  csv(): string {
    const steps = [...new Set([...this.#trainLoss.keys(), ...this.#validLoss.keys()])].sort(
      (one, other) => one - other,
    );
    const cell = (value: number | undefined) => (value === undefined ? '' : String(value));
    const rows = steps.map((step) =>
      [step, cell(this.#trainLoss.get(step)), '', cell(this.#validLoss.get(step)), ''].join(','),
    );
    return `${[COLUMNS.join(','), ...rows].join('\n')}\n`;
  }
}
