import type { FeaturesRow } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { CodedFault, FaultList } from '../../fault-list.js';
import { giveTurn } from '../../planning-stopped.js';
import { ONE_SEQUENCE } from '../example-load.js';
import {
  type ConvertedRow,
  type Objective,
  type RowConverter,
  refuseObjective,
  type SidesOfJob,
} from '../objective.js';
import { codesOfFeatures, type FeatureExamples, StoredFeatures } from './feature-examples.js';
import { FEATURES_FORMAT } from './row-format.js';

/** A label for each row of numbers. */
export const classification: Objective<FeatureExamples> = {
  kind: 'classification',
  named: null,
  modelKind: 'classifier',
  formats: [FEATURES_FORMAT],
  rows: FEATURES_FORMAT.keys,
  examplesDependOn: async ({ model }) => widthsOf(model),
  createConverter: async ({ model }) => new FeatureRowConverter(widthsOf(model)),
  createPromptEncoder: null,
  remarkWarnings: {},
  lengthLimit: () => null,
  tokensOf: () => 1,
  longestOf: null,
  settingsFaults: refuseObjective,
  examples: (source, model) => new StoredFeatures(source, widthsOf(model).width),
  load: () => ONE_SEQUENCE,
  checkRows: null,
  checkTargets: checkLabels,
  warnings: () => [],
};

interface Widths {
  width: number;
  classes: number;
}

function widthsOf({ architecture }: ModelFolder): Widths {
  if (architecture.kind !== 'classifier') throw new Error('classification trains classifiers');
  const { layers } = architecture;
  return { width: layers[0]!.inFeatures, classes: layers.at(-1)!.outFeatures };
}

/** Examples between two turns of the event loop. */
const LABELS_PER_TURN = 20_000;

/** A class that no row trains is not learnt, so its rows in an evaluation are a mistake. */
async function checkLabels(
  { model, training, validation, signal }: SidesOfJob<FeatureExamples>,
  faults: FaultList,
): Promise<void> {
  const { classes } = widthsOf(model);
  const known = new Set<number>();
  for (let index = 0; index < training.count && known.size < classes; index++) {
    known.add(training.label(index));
    if (index % LABELS_PER_TURN === 0) await giveTurn(signal);
  }
  if (known.size === classes) return;
  for (let index = 0; index < validation.count; index++) {
    const label = validation.label(index);
    if (!known.has(label)) {
      const message = `The label is ${label}, which no row of the training dataset has.`;
      faults.add({ code: 'label_out_of_range', message, param: 'label', line: validation.lineOf(index) });
    }
    if (index % LABELS_PER_TURN === 0) await giveTurn(signal);
  }
}

class FeatureRowConverter implements RowConverter<FeaturesRow> {
  readonly #width: number;
  readonly #classes: number;

  constructor({ width, classes }: Widths) {
    this.#width = width;
    this.#classes = classes;
  }

  rendered(): null {
    return null;
  }

  convert(row: FeaturesRow): ConvertedRow | CodedFault[] {
    const faults: CodedFault[] = [];
    if (row.features.length !== this.#width) {
      const message = `The row has ${row.features.length} features, but the model takes ${this.#width}.`;
      faults.push({ code: 'dataset_format_mismatch', message, param: 'features' });
    }
    if (row.label >= this.#classes) {
      const message = `The label is ${row.label}, but the model has the classes 0 to ${this.#classes - 1}.`;
      faults.push({ code: 'label_out_of_range', message, param: 'label' });
    }
    if (faults.length > 0) return faults;
    return { codes: codesOfFeatures(row.features, row.label), trained: 1, remarks: [] };
  }
}
