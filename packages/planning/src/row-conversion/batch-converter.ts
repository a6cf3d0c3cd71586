import {
  type FeaturesRow,
  type GradedPromptRow,
  type LabelledRow,
  type PairRow,
  ProductError,
  type RenderedRow,
  type TextualRow,
  type UploadedDataset,
} from '@lorasmith/contracts';
import { checkRow } from '../dataset-row.js';
import { concatenate } from '../example-file/example-file.js';
import { type CodedFault, FaultList } from '../fault-list.js';
import { type Line, parseLine, type RawRow } from '../json-lines.js';
import { type ConvertedRow, type RemarkCount, RemarkCounts, type RowConverter } from '../objectives/objective.js';

/** The examples of some consecutive lines of a dataset. Plain data, so that threads can send it. */
export interface ConvertedBatch {
  /** Rows among the lines: those that are not blank. */
  rows: number;
  /** `[examples, 4]`: codes, targets of the loss, index of the row among these rows, line of the file. */
  records: Uint32Array<ArrayBuffer>;
  /** The token ids of all examples, concatenated. */
  codes: Int32Array<ArrayBuffer>;
  faults: { listed: CodedFault[]; count: number };
  remarks: RemarkCount[];
}

/** Numbers of a record in {@link ConvertedBatch}. */
export const RECORD_NUMBERS = 4;

/** Converts lines of a dataset to examples. */
export class BatchConverter {
  readonly #dataset: UploadedDataset;
  readonly #converter: RowConverter;

  constructor(dataset: UploadedDataset, converter: RowConverter) {
    this.#dataset = dataset;
    this.#converter = converter;
  }

  /** @param beforeRow called before each row, which then waits for what it returns */
  async convert(lines: readonly Line[], beforeRow?: () => Promise<void> | null): Promise<ConvertedBatch> {
    const records: number[] = [];
    const examples: Int32Array[] = [];
    const faults = new FaultList();
    const remarks = new RemarkCounts();
    let rows = 0;
    for (const bytes of lines) {
      await beforeRow?.();
      const raw = parseLine(bytes);
      if (raw === null) continue;
      const { line } = raw;
      const converted = this.convertRow(raw);
      if (Array.isArray(converted)) faults.add(...converted.map((fault) => ({ ...fault, line })));
      else {
        records.push(converted.codes.length, converted.trained, rows, line);
        examples.push(converted.codes);
        for (const { code, detail = '' } of converted.remarks) remarks.add({ code, rows: 1, line, detail });
      }
      rows++;
    }
    const { listed, count } = faults;
    const ofRows = { rows, faults: { listed, count }, remarks: remarks.all };
    return { ...ofRows, records: Uint32Array.from(records), codes: concatenate(examples) };
  }

  /** An example as the report shows it. */
  rendered(codes: Int32Array): RenderedRow | null {
    return this.#converter.rendered(codes);
  }

  /** @returns its example, or what is wrong with the row */
  convertRow(raw: RawRow): ConvertedRow | CodedFault[] {
    // Uploads refuse such lines, so the stored dataset was changed.
    if (raw.fault !== null) return [{ ...raw.fault, code: 'invalid_dataset' }];
    const { format, row, faults } = checkRow(raw.value);
    if (row === null) return faults;
    if (format !== this.#dataset.format) {
      const message = `The row has the format ${format}, but the dataset has ${this.#dataset.format}.`;
      return [{ code: 'invalid_dataset', message }];
    }
    try {
      // The objective was chosen for the format of the dataset, and so of this row.
      return this.#converter.convert(row as TextualRow & FeaturesRow & PairRow & LabelledRow & GradedPromptRow);
    } catch (error) {
      if (!(error instanceof ProductError)) throw error;
      const found = new FaultList();
      found.addError(error);
      return found.listed;
    }
  }
}
