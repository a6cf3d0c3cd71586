import type { ModelSource } from '@lorasmith/base-models';
import { DATASET_FILES, type UploadedDataset } from '@lorasmith/contracts';
import type { PreflightRows } from '../jobs/preflight-tasks.js';
import type { DatasetCatalog } from './dataset-catalog.js';

export interface RowSources {
  catalog: Pick<DatasetCatalog, 'hold'>;
  baseModels: Pick<ModelSource, 'holdOutline'>;
}

/** Keeps the files of a dataset and the outline of a base model on this host while `work` reads them. */
export async function withRows<Result>(
  { catalog, baseModels }: RowSources,
  { dataset, baseModel }: Pick<PreflightRows, 'dataset' | 'baseModel'>,
  work: (rows: PreflightRows) => Promise<Result>,
): Promise<Result> {
  const { modelsDir, release: releaseModel } = await baseModels.holdOutline(baseModel);
  try {
    return await withFile({ catalog }, dataset, (rowsFile) => work({ modelsDir, baseModel, dataset, rowsFile }));
  } finally {
    releaseModel();
  }
}

/** Keeps the file with the rows on this host while `work` reads it. */
export async function withFile<Result>(
  { catalog }: Pick<RowSources, 'catalog'>,
  { id }: UploadedDataset,
  work: (rowsFile: string) => Promise<Result>,
): Promise<Result> {
  const held = await catalog.hold(id);
  try {
    return await work(held.path(DATASET_FILES.rows));
  } finally {
    held.release();
  }
}
