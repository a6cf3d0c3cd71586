import {
  checkRecordVersion,
  DATASET_FILES,
  type Dataset,
  DatasetRecord,
  type JobSpec,
  type MachineProfile,
  ProductError,
  specOf,
} from '@lorasmith/contracts';
import type { JobAttempt } from '@lorasmith/job-store';
import { openBaseModel } from '@lorasmith/model-folder';
import type { ModelSource } from '@lorasmith/model-store';
import type { ExampleStoreOptions } from '@lorasmith/planning';
import type { BundleStore, HeldBundle } from '@lorasmith/storage';
import { Value } from 'typebox/value';
import type { JobFolders } from './job-folders.js';
import type { TrainingOrder } from './trainer/messages.js';

export interface TrainingSources {
  models: ModelSource;
  datasets: BundleStore;
  adapters: BundleStore;
  folders: JobFolders;
  /** What was measured of this machine. */
  machine: MachineProfile | null;
  /** Where datasets are kept as tokens. */
  tokens: ExampleStoreOptions;
}

/** What a trainer needs, and what keeps it on this host. */
export interface Prepared<Order> {
  order: Order;
  /** Lets go of what was held for it. */
  release(): void;
}

/**
 * Finds all that a job names, has it on this host, and makes the job's folders.
 * @throws ProductError `model_not_found` and the other codes of a base model, `dataset_not_found`, `adapter_not_found`
 */
export async function prepareTraining(sources: TrainingSources, attempt: JobAttempt): Promise<Prepared<TrainingOrder>> {
  const spec = specOf(attempt.job);
  const held: { release(): void }[] = [];
  const release = () => {
    for (const bundle of held) bundle.release();
  };
  const hold = async (store: BundleStore, id: string): Promise<HeldBundle> => {
    const bundle = await store.hold(id);
    held.push(bundle);
    return bundle;
  };
  try {
    const source = await sources.models.hold(spec.base_model);
    held.push(source);
    const model = await openBaseModel(source.modelsDir, spec.base_model);
    const dataset = await readDataset(sources.datasets, spec);
    const initialAdapter = await requireInitialAdapter(sources.adapters, spec);
    const order: TrainingOrder = {
      job: attempt.job.id,
      spec,
      dataset,
      machine: sources.machine,
      tokens: sources.tokens,
      paths: {
        modelFolder: model.path,
        rowsFile: (await hold(sources.datasets, spec.dataset)).path(DATASET_FILES.rows),
        initialAdapterFolder: initialAdapter === null ? null : (await hold(sources.adapters, initialAdapter)).folder,
        ...(await sources.folders.prepare(attempt)),
      },
    };
    return { order, release };
  } catch (error) {
    release();
    throw error;
  }
}

async function readDataset(datasets: BundleStore, { dataset }: JobSpec): Promise<Dataset> {
  if (!(await datasets.has(dataset))) {
    throw new ProductError('dataset_not_found', `The dataset ${dataset} is no longer there. Upload it again.`);
  }
  const record = await datasets.readJson(dataset, DATASET_FILES.record);
  checkRecordVersion(record, `The record of ${dataset}`);
  if (!Value.Check(DatasetRecord, record)) {
    throw new ProductError('internal_error', `The record of ${dataset} is damaged.`);
  }
  const { version, ...known } = record;
  return known;
}

async function requireInitialAdapter(adapters: BundleStore, { lora }: JobSpec): Promise<string | null> {
  if (lora.init_from === null) return null;
  if (!(await adapters.has(lora.init_from))) {
    throw new ProductError('adapter_not_found', `The adapter ${lora.init_from} to go on from is no longer there.`, {
      param: 'lora.init_from',
    });
  }
  return lora.init_from;
}
