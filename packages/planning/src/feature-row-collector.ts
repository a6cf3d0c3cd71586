import type { FeaturesRow } from '@lorasmith/contracts';
import { FeatureExamplesBuilder } from './example-builders.js';
import type { CodedFault } from './fault-list.js';
import type { RowCollector, RowCounts } from './row-collector.js';

/** Rows of numbers for a classifier. */
export class FeatureRowCollector implements RowCollector<FeaturesRow> {
  readonly training: FeatureExamplesBuilder;
  readonly validation: FeatureExamplesBuilder;
  readonly counts: RowCounts = { overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: 1 };
  readonly #width: number;
  readonly #classes: number;

  constructor({ width, classes }: { width: number; classes: number }) {
    this.#width = width;
    this.#classes = classes;
    this.training = new FeatureExamplesBuilder(width);
    this.validation = new FeatureExamplesBuilder(width);
  }

  add(row: FeaturesRow, line: number, isHeldOut: boolean): CodedFault[] {
    const faults: CodedFault[] = [];
    if (row.features.length !== this.#width) {
      const message = `The row has ${row.features.length} features, the model takes ${this.#width}.`;
      faults.push({ code: 'dataset_format_mismatch', message, param: 'features' });
    }
    if (row.label >= this.#classes) {
      const message = `The label is ${row.label}, the model knows 0 to ${this.#classes - 1}.`;
      faults.push({ code: 'label_out_of_range', message, param: 'label' });
    }
    if (faults.length === 0) (isHeldOut ? this.validation : this.training).add(row, line);
    return faults;
  }

  warnings(): [] {
    return [];
  }
}
