import { createReadStream } from 'node:fs';
import path from 'node:path';
import { ADAPTER_FILES, type AdapterId, type AdapterManifest, type Dataset, type JobId } from '@lorasmith/contracts';
import type { AttemptWrite, JobAttempt } from '@lorasmith/job-store';
import type { BundleStore } from '@lorasmith/storage';
import { specOf } from './job-spec.js';
import type { TrainingOutcome } from './trainer/messages.js';

/**
 * The id of the adapter that a job makes. It follows from the job's, so that two attempts cannot publish two adapters:
 * where a worker dies between publishing and saying so, the next one finds the adapter there.
 */
export function adapterIdOf(job: JobId): AdapterId {
  return job.replace(/^job_/, 'ad_');
}

export interface PublishAdapterOptions {
  adapters: BundleStore;
  attempt: JobAttempt;
  dataset: Dataset;
  outcome: TrainingOutcome;
  /** Where the trainer left the PEFT files. */
  outputFolder: string;
  /** Asked just before the adapter appears; anything but `done` leaves it unpublished. */
  beginPublishing(): Promise<AttemptWrite>;
}

/**
 * Publishes the PEFT files with their manifest, by one rename.
 * @returns what {@link PublishAdapterOptions.beginPublishing} said; after `done` the adapter is there
 * @throws ProductError `storage_full`
 */
export async function publishAdapter(options: PublishAdapterOptions): Promise<AttemptWrite> {
  const { adapters, attempt, outcome, outputFolder } = options;
  const id = adapterIdOf(attempt.job.id);
  const staging = await adapters.stage();
  try {
    const files: AdapterManifest['files'] = [];
    for (const name of [ADAPTER_FILES.config, ADAPTER_FILES.weights]) {
      files.push({ name, ...(await staging.write(name, createReadStream(path.join(outputFolder, name)))) });
    }
    const manifest = manifestOf({ id, attempt, dataset: options.dataset, outcome, files });
    await staging.write(ADAPTER_FILES.manifest, [Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`)]);
    const fence = await options.beginPublishing();
    // Where an earlier attempt came so far, too, its adapter is as good and stays.
    if (fence === 'done') await adapters.publish(staging, id);
    return fence;
  } finally {
    await staging.discard();
  }
}

function manifestOf(parts: {
  id: AdapterId;
  attempt: JobAttempt;
  dataset: Dataset;
  outcome: TrainingOutcome;
  files: AdapterManifest['files'];
}): AdapterManifest {
  const { id, attempt, dataset, outcome, files } = parts;
  const settings = specOf(attempt.job);
  return {
    id,
    object: 'adapter',
    origin: 'trained',
    name: settings.name,
    job: attempt.job.id,
    created_at: new Date().toISOString(),
    base_model: outcome.base_model,
    dataset: { id: dataset.id, sha256: dataset.sha256, rows: dataset.rows },
    settings,
    report: outcome.report,
    lora: outcome.lora,
    result: outcome.result,
    ...(outcome.probe === undefined ? {} : { probe: outcome.probe }),
    ...(outcome.checks === undefined ? {} : { checks: outcome.checks }),
    versions: outcome.versions,
    files,
  };
}
