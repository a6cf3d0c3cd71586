import type { Fault, FeaturesRow, Report, TextualRow } from '@lorasmith/contracts';
import type { Examples } from './examples.js';
import type { CodedFault } from './fault-list.js';

/** What became of the rows, as the report counts it. */
export type RowCounts = Pick<Report['rows'], 'overflowed' | 'dropped' | 'truncated' | 'split' | 'longest'>;

/** One side of the split: what is trained on, or what is held out. */
export interface CollectedSide {
  count: number;
  tokens: number;
  trainedTokens: number;
  finish(): Examples;
}

/** Makes examples of rows, one after the other. */
export interface RowCollector<Row extends TextualRow | FeaturesRow = TextualRow | FeaturesRow> {
  readonly training: CollectedSide;
  readonly validation: CollectedSide;
  readonly counts: RowCounts;
  /**
   * @returns What is wrong with the row for this model and these settings; the line is added by the caller.
   * @throws ProductError of which each is a fault of this row.
   */
  add(row: Row, line: number, isHeldOut: boolean): CodedFault[];
  warnings(): Fault[];
}
