import { type JobSpec, ProductError, type UploadedDataset } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { Examples } from '../example-file/examples.js';
import { classification } from './classification/classification.js';
import { groupRelative } from './group-relative/group-relative.js';
import { labelled } from './labelled/labelled.js';
import { nextToken } from './next-token/next-token.js';
import type { ExampleLoad, NamedObjective, Objective } from './objective.js';
import { preference } from './preference/preference.js';

/**
 * Another objective is another folder, and a line here and in packages/training. Of those with the same rows, the first one tokenizes
 * what no job has named an objective for.
 */
export const OBJECTIVES = [nextToken, classification, preference, labelled, groupRelative] as const;

/** The kinds of objectives. */
export type ObjectiveKind = (typeof OBJECTIVES)[number]['kind'];

/** The objective of examples. */
export function objectiveOfKind(kind: string): Objective {
  const found = (OBJECTIVES as readonly Objective[]).find((one) => one.kind === kind);
  if (found === undefined) throw new Error(`no objective ${kind}`);
  return found;
}

/** The work that the examples of a job are. */
export function loadOf({ kind }: Pick<Examples, 'kind'>, objective: NamedObjective): ExampleLoad {
  return objectiveOfKind(kind).load(objective);
}

/**
 * The objective for this model and dataset.
 * @param job - The job that trains it: of objectives with the same rows it has the one that it names. @defaultValue none
 * @param param - The field of the job that names the dataset. @defaultValue `dataset`
 * @throws ProductError `dataset_format_mismatch` when there is none
 */
export function objectiveFor(
  { architecture, name }: ModelFolder,
  { format }: UploadedDataset,
  job: Pick<JobSpec, 'objective'> = {},
  param: 'dataset' | 'validation.dataset' = 'dataset',
): Objective {
  const ofModel = (OBJECTIVES as readonly Objective[]).filter(({ modelKind }) => modelKind === architecture.kind);
  const ofRows = ofModel.filter(({ formats }) => formats.some((one) => one.name === format));
  const found = ofRows.find(({ named }) => named === (job.objective?.kind ?? null)) ?? ofRows[0];
  if (found !== undefined) return found;
  const rows = [...new Set(ofModel.map((one) => one.rows))].join(', or ');
  const which = param === 'dataset' ? 'dataset' : 'validation dataset';
  const message = `The ${which} has the format ${format}; the base model "${name}" is trained on rows of ${rows}.`;
  throw new ProductError('dataset_format_mismatch', message, { param });
}
