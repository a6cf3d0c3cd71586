import type { ModelSource } from '@lorasmith/base-models';
import { DATASET_FILES, type UploadedDataset } from '@lorasmith/contracts';
import type { PreflightRows } from '../jobs/preflight-tasks.js';
import type { DatasetCatalog } from './dataset-catalog.js';

export interface LeaseSources {
  catalog: Pick<DatasetCatalog, 'lease'>;
  baseModels: Pick<ModelSource, 'leaseWithoutWeights'>;
}

/** Leases of files: they stay on this host until they are released, also if a dataset is deleted meanwhile. */
export class FileLeases {
  readonly #sources: LeaseSources;
  readonly #leases: { release(): void }[] = [];

  constructor(sources: LeaseSources) {
    this.#sources = sources;
  }

  /** The path of the dataset's rows. @throws ProductError `dataset_not_found` */
  async rowsFile({ id }: UploadedDataset): Promise<string> {
    const folder = await this.#sources.catalog.lease(id);
    this.#leases.push(folder);
    return folder.path(DATASET_FILES.rows);
  }

  /** The folder with the base model, which may be without its weights. @throws ProductError `model_not_found` */
  async modelsDir(baseModel: string): Promise<string> {
    const model = await this.#sources.baseModels.leaseWithoutWeights(baseModel);
    this.#leases.push(model);
    return model.modelsDir;
  }

  release(): void {
    for (const lease of this.#leases) lease.release();
  }
}

/** Does work that leases files, and releases them when it ends. */
export async function withLeases<Result>(
  sources: LeaseSources,
  work: (leases: FileLeases) => Promise<Result>,
): Promise<Result> {
  const leases = new FileLeases(sources);
  try {
    return await work(leases);
  } finally {
    leases.release();
  }
}

/** Leases the rows of a dataset and a base model while `work` reads them. */
export async function withRows<Result>(
  sources: LeaseSources,
  { dataset, baseModel }: Pick<PreflightRows, 'dataset' | 'baseModel'>,
  work: (rows: PreflightRows) => Promise<Result>,
): Promise<Result> {
  return await withLeases(sources, async (leases) => {
    const modelsDir = await leases.modelsDir(baseModel);
    return await work({ modelsDir, baseModel, dataset, rowsFile: await leases.rowsFile(dataset) });
  });
}
