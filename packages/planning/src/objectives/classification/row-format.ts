import { DatasetRow, type FeaturesRow } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from '../objective.js';

/** Rows of numbers with a label. */
export const FEATURES_FORMAT: RowFormat = {
  name: 'features',
  tellingKeys: ['features'],
  keys: '"features" and "label"',
  schema: Compile(DatasetRow.features),
  faults: (row) => numberFaults(row as FeaturesRow),
};

function numberFaults({ features, label }: FeaturesRow): RowFault[] {
  const faults: RowFault[] = [];
  for (const [index, value] of features.entries()) {
    if (Number.isFinite(Math.fround(value))) continue;
    const message = `${value} is beyond the range of float32 (about 3.4e38).`;
    faults.push({ code: 'invalid_dataset', message, param: `features.${index}` });
    if (faults.length === MAX_FAULTS_PER_ROW) break;
  }
  // Labels are stored as int32 and no classifier has more classes.
  if (label > 0x7fffffff) {
    faults.push({
      code: 'invalid_dataset',
      message: `Label ${label} is too large: at most 2147483647.`,
      param: 'label',
    });
  }
  return faults;
}
