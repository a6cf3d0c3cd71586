import { DATASET_FILES, type Dataset, type JobSpec, type MachineProfile, ProductError } from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/job-store';
import { openBaseModel } from '@lorasmith/model-folder';
import type { BundleStore } from '@lorasmith/storage';
import type { JobFolders } from './job-folders.js';
import { specOf } from './job-spec.js';
import type { TrainingOrder } from './trainer/messages.js';

export interface TrainingSources {
  /** A folder per base model. */
  modelsDir: string;
  datasets: BundleStore;
  adapters: BundleStore;
  folders: JobFolders;
  /** What was measured of this machine. */
  machine: MachineProfile | null;
}

/**
 * Finds all that a job names and makes its folders.
 * @throws ProductError `model_not_found` and the other codes of a base model, `dataset_not_found`, `adapter_not_found`
 */
export async function prepareTraining(sources: TrainingSources, attempt: JobAttempt): Promise<TrainingOrder> {
  const spec = specOf(attempt.job);
  const model = await openBaseModel(sources.modelsDir, spec.base_model);
  const dataset = await readDataset(sources.datasets, spec);
  const initialAdapterFolder = await initialAdapter(sources.adapters, spec);
  return {
    job: attempt.job.id,
    spec,
    dataset,
    machine: sources.machine,
    paths: {
      modelFolder: model.path,
      rowsFile: sources.datasets.path(spec.dataset, DATASET_FILES.rows),
      initialAdapterFolder,
      ...(await sources.folders.prepare(attempt)),
    },
  };
}

async function readDataset(datasets: BundleStore, { dataset }: JobSpec): Promise<Dataset> {
  if (!(await datasets.has(dataset))) {
    throw new ProductError('dataset_not_found', `The dataset ${dataset} is no longer there. Upload it again.`);
  }
  return (await datasets.readJson(dataset, DATASET_FILES.record)) as Dataset;
}

async function initialAdapter(adapters: BundleStore, { lora }: JobSpec): Promise<string | null> {
  if (lora.init_from === null) return null;
  if (!(await adapters.has(lora.init_from))) {
    throw new ProductError('adapter_not_found', `The adapter ${lora.init_from} to go on from is no longer there.`, {
      param: 'lora.init_from',
    });
  }
  return adapters.folder(lora.init_from);
}
