import type { Dataset, DatasetFormat, ErrorCode, Fault, FeaturesRow, JobSpec, TextualRow } from '@lorasmith/contracts';
import type { ModelFolder } from '@lorasmith/model-folder';
import type { Validator } from 'typebox/compile';
import type { ExampleRecord } from '../example-file/example-record.js';
import type { SideSource } from '../example-file/example-side.js';
import type { RowCounts } from '../example-file/example-summary.js';
import type { ExampleWriter } from '../example-file/example-writer.js';
import type { CodedFault } from '../fault-list.js';
import type { Examples } from './objectives.js';

/** A fault within one row; the reader of the file adds the line. */
export type RowFault = Fault & { code: ErrorCode };

/** More add nothing about one row, and a list of a million wrong numbers must not become a million faults. */
export const MAX_FAULTS_PER_ROW = 8;

/** One shape that a row can have, recognized by its keys. */
export interface RowFormat {
  name: DatasetFormat;
  /** Keys that no other format has. */
  tellingKeys: readonly string[];
  /** All its keys, in words. */
  keys: string;
  schema: Pick<Validator, 'Check' | 'Errors'>;
  /** What a schema cannot say, of a row that passes it. */
  faults(row: unknown): RowFault[];
}

/** What a job trains, and on what. */
export interface ObjectiveJob {
  spec: JobSpec;
  model: ModelFolder;
  dataset: Dataset;
}

/**
 * What planning has to know of an objective: which rows it learns from, and which examples they become. The loss is the
 * other half, in packages/training under the same `kind`: planning never loads the engine.
 */
export interface Objective {
  readonly kind: Examples['kind'];
  /** Kind of the base models that it trains. */
  readonly modelKind: ModelFolder['architecture']['kind'];
  readonly formats: readonly RowFormat[];
  /** Its rows, in words. */
  readonly rows: string;
  /** All that examples depend on besides the dataset. Stored examples are used again only where it is the same. */
  examplesDependOn(job: ObjectiveJob): Promise<object>;
  createConverter(job: ObjectiveJob, writer: ExampleWriter): Promise<RowConverter>;
  /** How many tokens a stored example counts for. */
  tokensOf(record: ExampleRecord): number;
  /** Examples as the loss reads them. */
  examples(source: SideSource, model: ModelFolder): Examples;
  /** What the report warns of, once all rows are converted. */
  warnings(job: ObjectiveJob, counts: RowCounts): Fault[];
}

/**
 * Converts rows to examples, one after the other. A row becomes any number of examples. What the words of an example mean
 * only its objective knows: one sequence with its mask, for instance, or several.
 */
export interface RowConverter<Row extends TextualRow | FeaturesRow = TextualRow | FeaturesRow> {
  readonly counts: RowCounts;
  /**
   * @param location of the row: its line, from 1, and its index among the rows, from 0
   * @returns What is wrong with the row for this model and these settings; the caller adds the line.
   * @throws ProductError of which each is a fault of this row; `storage_full`
   */
  add(row: Row, location: { line: number; row: number }): CodedFault[];
  warnings(): Fault[];
}
