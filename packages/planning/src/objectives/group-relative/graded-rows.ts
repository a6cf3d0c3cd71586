import { parseJsonNumbers } from '@lorasmith/contracts';
import type { CompiledGrader } from '@lorasmith/graders';
import { type FaultList, throwIfPlanningStopped } from '../../fault-list.js';
import { readLines, textOfLine } from '../../json-lines.js';

/** The rows of a dataset as graders read them. Their text is in memory, which is as much as the dataset has. */
export class GradedRows {
  readonly #texts: ReadonlyMap<number, string>;

  private constructor(texts: ReadonlyMap<number, string>) {
    this.#texts = texts;
  }

  /** @param rowsFile JSONL. @throws ProductError `dataset_not_found`, `cancelled` */
  static async read(rowsFile: string, signal?: AbortSignal): Promise<GradedRows> {
    const texts = new Map<number, string>();
    for await (const lines of readLines(rowsFile)) {
      throwIfPlanningStopped(signal);
      for (const { number, bytes } of lines) {
        const text = bytes === null ? null : textOfLine(number, bytes);
        if (text !== null && text !== '') texts.set(number, text);
      }
    }
    return new GradedRows(texts);
  }

  /** The row of a line, from 1, with each number as a JsonNumber: graders read it as it stands. */
  at(line: number): unknown {
    return parseJsonNumbers(this.#texts.get(line)!);
  }

  /** Adds a fault for each row that lacks what the grader reads. */
  check(faultOf: CompiledGrader['faultOf'], faults: FaultList): void {
    for (const line of this.#texts.keys()) {
      const message = faultOf(this.at(line));
      if (message !== null) faults.add({ code: 'invalid_dataset', message, param: 'reference', line });
    }
  }
}
