import { readDataset } from '@lorasmith/artifacts';
import type { ModelSource } from '@lorasmith/base-models';
import {
  type CheckpointReference,
  DATASET_FILES,
  type DatasetId,
  type JobSpec,
  type MachineProfile,
  ProductError,
  specOf,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { openBaseModel } from '@lorasmith/model-folder';
import type { ExampleStoreOptions, ValidationRows } from '@lorasmith/planning';
import type { JobAttempt } from '@lorasmith/queue';
import type { BundleStore } from '@lorasmith/storage';
import type { JobFolders } from './job-folders.js';
import type { PublishCheckpointOrder, TrainerOrder, TrainOrder } from './trainer/messages.js';

export interface OrderSources {
  models: ModelSource;
  datasets: BundleStore;
  adapters: BundleStore;
  folders: JobFolders;
  /** The measurements of this machine. */
  machine: MachineProfile | null;
  /** The store of datasets as tokens. */
  tokens: ExampleStoreOptions;
  /** Folder in which digests of weights are remembered. */
  weightDigests: string;
}

/** An order, and what keeps the files that it names on this host. */
export interface PreparedOrder {
  order: TrainerOrder;
  /** Lets these files be removed again. */
  release(): void;
}

/** Keeps something on this host until the attempt has ended. */
type Keep = <Lease extends { release(): void }>(leasing: Promise<Lease>) => Promise<Lease>;

/**
 * Brings everything that a job names to this host, makes its folders, and writes the order for the trainer.
 * @throws ProductError `model_not_found` and the other codes of a base model, `dataset_not_found`, `adapter_not_found`
 */
export async function prepareOrder(sources: OrderSources, attempt: JobAttempt): Promise<PreparedOrder> {
  const leases: { release(): void }[] = [];
  const release = () => {
    for (const lease of leases) lease.release();
  };
  const keep: Keep = async (leasing) => {
    const lease = await leasing;
    leases.push(lease);
    return lease;
  };
  try {
    const { job } = attempt;
    const spec = specOf(job);
    const { modelsDir } = await keep(sources.models.lease(spec.base_model));
    const { path: modelFolder } = await openBaseModel(modelsDir, spec.base_model);
    const order =
      job.kind === 'train'
        ? await trainOrder(sources, attempt, { spec, modelFolder, keep })
        : await publishOrder(sources, attempt, { spec, modelFolder, checkpoint: job.checkpoint });
    return { order, release };
  } catch (error) {
    release();
    throw error;
  }
}

async function trainOrder(
  { datasets, adapters, folders, machine, tokens, weightDigests }: OrderSources,
  attempt: JobAttempt,
  { spec, modelFolder, keep }: { spec: JobSpec; modelFolder: string; keep: Keep },
): Promise<TrainOrder> {
  const dataset = await requireDataset(datasets, spec.dataset, 'dataset');
  const initialAdapter = await requireInitialAdapter(adapters, spec);
  const rowsFile = (await keep(datasets.lease(spec.dataset))).path(DATASET_FILES.rows);
  const validation = await validationRows(datasets, spec, keep);
  const initialAdapterFolder = initialAdapter === null ? null : (await keep(adapters.lease(initialAdapter))).folder;
  const { checkpointFolder, outputFolder } = await folders.prepare(attempt);
  return {
    kind: 'train',
    job: attempt.job.id,
    spec,
    dataset,
    validation,
    machine,
    tokens,
    weightDigests,
    share: attempt.share,
    rungStep: attempt.rungStep,
    paths: { modelFolder, rowsFile, initialAdapterFolder, checkpointFolder, outputFolder },
  };
}

async function publishOrder(
  { folders, weightDigests }: OrderSources,
  attempt: JobAttempt,
  options: { spec: JobSpec; modelFolder: string; checkpoint: CheckpointReference },
): Promise<PublishCheckpointOrder> {
  const { spec, modelFolder, checkpoint } = options;
  const folder = await folders.checkpointsOf(checkpoint.job);
  const { outputFolder } = await folders.prepare(attempt);
  return {
    kind: 'publish-checkpoint',
    job: attempt.job.id,
    spec,
    checkpoint: { folder, step: checkpoint.step },
    weightDigests,
    share: attempt.share,
    paths: { modelFolder, outputFolder },
  };
}

async function validationRows(
  datasets: BundleStore,
  { validation: { dataset: id } }: JobSpec,
  keep: Keep,
): Promise<ValidationRows | null> {
  if (id === null) return null;
  const dataset = await requireDataset(datasets, id, 'validation.dataset');
  return { dataset, rowsFile: (await keep(datasets.lease(id))).path(DATASET_FILES.rows) };
}

async function requireDataset(datasets: BundleStore, id: DatasetId, param: string): Promise<UploadedDataset> {
  if (!(await datasets.has(id))) {
    const message = `The dataset ${id} no longer exists. Upload it again.`;
    throw new ProductError('dataset_not_found', message, { param });
  }
  return await readDataset(datasets, id);
}

async function requireInitialAdapter(adapters: BundleStore, { lora }: JobSpec): Promise<string | null> {
  if (lora.init_from === null) return null;
  if (!(await adapters.has(lora.init_from))) {
    throw new ProductError('adapter_not_found', `The adapter ${lora.init_from} to start from is no longer there.`, {
      param: 'lora.init_from',
    });
  }
  return lora.init_from;
}
