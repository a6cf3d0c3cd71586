import { jobOfResultFile, type Owner, ResultFileId } from '@lorasmith/contracts';
import type { JobStore } from '@lorasmith/queue';
import { Compile } from 'typebox/compile';
import type { DatasetCatalog } from '../../datasets/dataset-catalog.js';

const resultFileSchema = Compile(ResultFileId);

/** The owner of a file: of its dataset, or of the job whose metrics it has. Undefined if it does not exist. */
export async function ownerOfFile(
  id: string,
  { catalog, jobs }: { catalog: Pick<DatasetCatalog, 'ownerOf'>; jobs: Pick<JobStore, 'ownerOf'> },
): Promise<Owner | undefined> {
  return resultFileSchema.Check(id) ? await jobs.ownerOf(jobOfResultFile(id)) : await catalog.ownerOf(id);
}
