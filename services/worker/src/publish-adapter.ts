import path from 'node:path';
import { listingOf, writeManifest } from '@lorasmith/artifacts';
import {
  ADAPTER_FILES,
  type AdapterId,
  type AdapterManifest,
  type Job,
  type JobId,
  type JobSpec,
  objectiveContract,
  ProductError,
  type RenderedRow,
  specOf,
  type TrainingOutcome,
} from '@lorasmith/contracts';
import type { AttemptWrite, JobAttempt, JobStore } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';

/**
 * The id of the adapter that a job makes. It follows from the job's id, so that two attempts cannot publish two adapters:
 * where a worker dies after publishing and before recording it, the next one finds the adapter.
 */
export function adapterIdOf(job: JobId): AdapterId {
  return job.replace(/^job_/, 'ad_');
}

export interface PublishAdapterOptions {
  adapters: BundleStore;
  attempt: JobAttempt;
  outcome: TrainingOutcome;
  /** The folder in which the trainer left the PEFT files. */
  outputFolder: string;
  /** The log of the training for TensorBoard; null: none. */
  log: Buffer | null;
  /** Called just before the adapter appears; on anything but `done` it is not published. */
  beginPublishing(): Promise<AttemptWrite>;
}

/**
 * Moves the PEFT files into the store and publishes them with their manifest, by one rename.
 * @returns the answer of {@link PublishAdapterOptions.beginPublishing}; after `done` the adapter is published
 * @throws ProductError `storage_full`; `adapter_check_failed` when the files are not those that the trainer checked
 */
export async function publishAdapter(options: PublishAdapterOptions): Promise<AttemptWrite> {
  const { adapters, attempt, outcome, outputFolder } = options;
  const id = adapterIdOf(attempt.job.id);
  const staging = await adapters.stage();
  try {
    const files: AdapterManifest['files'] = [];
    for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
      const digest = await staging.take(name, path.join(outputFolder, name));
      checkDigest({ name, ...digest }, outcome.files);
      files.push({ name, ...digest });
    }
    if (options.log !== null) {
      const digest = await staging.write(ADAPTER_FILES.log, [options.log]);
      files.push({ name: ADAPTER_FILES.log, ...digest });
    }
    const { job } = attempt;
    const { base_model, lora, versions } = outcome;
    const origin = originOf(job, outcome);
    const described = { id, owner: job.owner, name: job.name, origin, base_model, lora, versions, files };
    const { manifest } = await writeManifest(staging, described);
    const fence = await options.beginPublishing();
    // If an earlier attempt came this far, its adapter is the same and stays.
    if (fence === 'done') await adapters.publish(staging, id, listingOf(manifest));
    return fence;
  } finally {
    await staging.discard();
  }
}

function checkDigest(file: AdapterManifest['files'][number], checked: TrainingOutcome['files']): void {
  const expected = checked.find(({ name }) => name === file.name);
  if (expected?.sha256 === file.sha256) return;
  const message = `${file.name} differs from the file that the trainer checked: its sha256 is ${file.sha256}, that of the checked one ${expected?.sha256}. The adapter was not published.`;
  throw new ProductError('adapter_check_failed', message);
}

/** Users of the adapter need not know where its maker wants messages and deliveries, nor some settings of the objective. */
function publicSpecOf(job: Job): JobSpec {
  const { deliver: _deliver, ...own } = specOf(job);
  const spec = { ...own, webhook: null };
  const { objective } = spec;
  const settings = objective && objectiveContract(objective.kind).publicSettings?.(objective);
  return settings === undefined ? spec : { ...spec, objective: settings };
}

function originOf(job: Job, outcome: TrainingOutcome): AdapterManifest['origin'] {
  const { dataset, validation_dataset, report, result, probe, checks } = outcome;
  // An adapter is given to others, the rows are not.
  const described = { ...report, rendered: report.rendered && withoutRow(report.rendered) };
  const training = {
    dataset,
    validation_dataset,
    settings: publicSpecOf(job),
    report: described,
    result,
    probe,
    checks,
  };
  return job.kind === 'train'
    ? { kind: 'trained', job: job.id, ...training }
    : { kind: 'published-checkpoint', ...job.checkpoint, ...training };
}

/** A manifest must not reveal rows. */
function withoutRow({ completion_format }: RenderedRow): RenderedRow {
  return { completion_format, first_row: [] };
}

// An orphaned adapter was published after its job had ended without one. A worker that stands still between its last look
// at the record and the rename, for longer than its lock, publishes when the job may have been cancelled long ago.

export interface AdapterOwners {
  store: Pick<JobStore, 'whileEnded'>;
  adapters: BundleStore;
}

/**
 * Removes the adapter of a job that has ended without one. Meanwhile the job cannot be resumed, so that no other worker
 * takes the adapter for its own.
 * @returns true if there was one
 */
export async function removeOrphanedAdapter(owners: AdapterOwners, id: JobId): Promise<boolean> {
  // There is nearly never one, and the job can then be resumed at once.
  return (await owners.adapters.has(adapterIdOf(id))) && (await removeIfOrphaned(owners, id));
}

/**
 * Removes the orphaned adapters of all jobs, where the worker died before it could look again. An adapter outlives the
 * record of its job.
 * @param signal - Ends it early.
 * @returns how many there were
 */
export async function removeOrphanedAdapters(owners: AdapterOwners, signal: AbortSignal): Promise<number> {
  let removed = 0;
  for (const id of await owners.adapters.list()) {
    if (signal.aborted) break;
    if (await removeIfOrphaned(owners, id.replace(/^ad_/, 'job_'))) removed++;
  }
  return removed;
}

async function removeIfOrphaned({ store, adapters }: AdapterOwners, id: JobId): Promise<boolean> {
  const removed = await store.whileEnded(id, ['cancelled', 'failed'], () => adapters.delete(adapterIdOf(id)));
  return removed ?? false;
}
