import { ProductError, type UploadedDataset } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { classification } from './classification/classification.js';
import { groupRelative } from './group-relative/group-relative.js';
import { labelled } from './labelled/labelled.js';
import { nextToken } from './next-token/next-token.js';
import type { Objective } from './objective.js';
import { preference } from './preference/preference.js';

/** Another objective is another folder, and a line here and in packages/training. */
export const OBJECTIVES: readonly Objective[] = [nextToken, classification, preference, labelled, groupRelative];

/**
 * The objective for this model and dataset.
 * @param param - The field of the job that names the dataset. @defaultValue `dataset`
 * @throws ProductError `dataset_format_mismatch` when there is none
 */
export function objectiveFor(
  { architecture, name }: ModelFolder,
  { format }: UploadedDataset,
  param: 'dataset' | 'validation.dataset' = 'dataset',
): Objective {
  const ofModel = OBJECTIVES.filter(({ modelKind }) => modelKind === architecture.kind);
  const found = ofModel.find(({ formats }) => formats.some((one) => one.name === format));
  if (found !== undefined) return found;
  const rows = ofModel.map((one) => one.rows).join(', or ');
  const which = param === 'dataset' ? 'dataset' : 'validation dataset';
  const message = `The ${which} has the format ${format}; the base model "${name}" is trained on rows of ${rows}.`;
  throw new ProductError('dataset_format_mismatch', message, { param });
}
