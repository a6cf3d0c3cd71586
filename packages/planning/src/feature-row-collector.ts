import type { FeaturesRow } from '@lorasmith/contracts';
import type { RowCounts } from './example-file/example-summary.js';
import { wordsOfFeatures } from './example-file/example-words.js';
import type { ExampleWriter } from './example-file/example-writer.js';
import type { CodedFault } from './fault-list.js';
import type { RowCollector } from './row-collector.js';

/** Rows of numbers for a classifier. */
export class FeatureRowCollector implements RowCollector<FeaturesRow> {
  readonly counts: RowCounts = { overflowed: 0, dropped: 0, truncated: 0, split: 0, longest: 1 };
  readonly #width: number;
  readonly #classes: number;
  readonly #writer: ExampleWriter;

  constructor({ width, classes }: { width: number; classes: number }, writer: ExampleWriter) {
    this.#width = width;
    this.#classes = classes;
    this.#writer = writer;
  }

  add(row: FeaturesRow, place: { line: number; row: number }): CodedFault[] {
    const faults: CodedFault[] = [];
    if (row.features.length !== this.#width) {
      const message = `The row has ${row.features.length} features, the model takes ${this.#width}.`;
      faults.push({ code: 'dataset_format_mismatch', message, param: 'features' });
    }
    if (row.label >= this.#classes) {
      const message = `The label is ${row.label}, the model knows 0 to ${this.#classes - 1}.`;
      faults.push({ code: 'label_out_of_range', message, param: 'label' });
    }
    if (faults.length === 0) {
      this.#writer.add({ words: wordsOfFeatures(row.features, row.label), trained: 1, ...place });
    }
    return faults;
  }

  warnings(): [] {
    return [];
  }
}
