import { DatasetRow, type FeaturesRow } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import { Compile } from 'typebox/compile';
import { type ExampleSource, type Examples, FileExamples } from '../../example-file/examples.js';
import { type CodedFault, type FaultList, yieldToEvents } from '../../fault-list.js';
import {
  type ConvertedRow,
  MAX_FAULTS_PER_ROW,
  type Objective,
  ONE_SEQUENCE,
  type RowConverter,
  type RowFault,
  type RowFormat,
  refuseObjective,
  type SplitsOfJob,
} from '../objective.js';

/** Rows of numbers with a label. */
export const FEATURES_FORMAT: RowFormat = {
  name: 'features',
  tellingKeys: ['features'],
  keys: '"features" and "label"',
  schema: Compile(DatasetRow.features),
  faults: (row) => numberFaults(row as FeaturesRow),
};

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
  { model, training, validation, signal }: SplitsOfJob<FeatureExamples>,
  faults: FaultList,
): Promise<void> {
  const { classes } = widthsOf(model);
  const known = new Set<number>();
  for (let index = 0; index < training.count && known.size < classes; index++) {
    known.add(training.label(index));
    if (index % LABELS_PER_TURN === 0) await yieldToEvents(signal);
  }
  if (known.size === classes) return;
  for (let index = 0; index < validation.count; index++) {
    const label = validation.label(index);
    if (!known.has(label)) {
      const message = `The label is ${label}, which no row of the training dataset has.`;
      faults.add({ code: 'label_out_of_range', message, param: 'label', line: validation.lineOf(index) });
    }
    if (index % LABELS_PER_TURN === 0) await yieldToEvents(signal);
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

/** Rows of a classifier's dataset. */
export interface FeatureExamples extends Examples {
  kind: 'classification';
  width: number;
  /** `features`: `[width]`. */
  row(index: number): { features: Float32Array; label: number };
  label(index: number): number;
}

export class StoredFeatures extends FileExamples implements FeatureExamples {
  readonly kind = 'classification';
  readonly width: number;

  constructor(source: ExampleSource, width: number) {
    super(source);
    this.width = width;
  }

  row(index: number): { features: Float32Array; label: number } {
    return featuresOfCodes(this.codes(index));
  }

  label(index: number): number {
    return this.lastCode(index);
  }
}

/** Codes of 4 bytes: the features as float32, then the label. */
export function codesOfFeatures(features: readonly number[], label: number): Int32Array {
  const codes = new Int32Array(features.length + 1);
  new Float32Array(codes.buffer).set(features);
  codes[features.length] = label;
  return codes;
}

function featuresOfCodes(codes: Int32Array): { features: Float32Array; label: number } {
  const width = codes.length - 1;
  return { features: new Float32Array(codes.buffer, codes.byteOffset, width), label: codes[width]! };
}
