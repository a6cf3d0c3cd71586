import type { Fault, FeaturesRow, TextualRow } from '@lorasmith/contracts';
import type { RowCounts } from './example-file/example-summary.js';
import type { CodedFault } from './fault-list.js';

/** Makes examples of rows, one after the other. */
export interface RowCollector<Row extends TextualRow | FeaturesRow = TextualRow | FeaturesRow> {
  readonly counts: RowCounts;
  /**
   * @param place where the row is: its line, from 1, and its number among the rows, from 0
   * @returns What is wrong with the row for this model and these settings; the line is added by the caller.
   * @throws ProductError of which each is a fault of this row; `storage_full`
   */
  add(row: Row, place: { line: number; row: number }): CodedFault[];
  warnings(): Fault[];
}
