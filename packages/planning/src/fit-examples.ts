import type { Fault } from '@lorasmith/contracts';
import type { ExampleNotes, ExampleRecord } from './example-file/example-format.js';
import type { ExampleStore, OpenExamples } from './example-file/example-store.js';
import type { FaultList } from './fault-list.js';
import type { LengthLimit } from './objectives/next-token/length-limit.js';
import type { Objective } from './objectives/objective.js';
import { giveTurn } from './planning-stopped.js';

export interface FitExamplesOptions {
  limit: LengthLimit;
  /** See {@link Objective}. */
  longestOf: Objective['longestOf'];
  store: ExampleStore;
  /** Receives what is wrong with rows. */
  faults: FaultList;
  signal?: AbortSignal | undefined;
}

/** Records read at once: some milliseconds. */
const SCAN_RECORDS = 20_000;

/**
 * Fits stored rows into the length that a job allows. Where every row fits, the examples are the rows themselves. Otherwise
 * they are parts of them: only the index is another.
 *
 * @param rows belongs to the result; the caller closes it when there is none
 * @returns null when rows are too long and that is a fault
 * @throws ProductError `cancelled`, `storage_full`
 */
export async function fitExamples(rows: OpenExamples, options: FitExamplesOptions): Promise<OpenExamples | null> {
  const { limit, longestOf, store, faults, signal } = options;
  const { file } = rows;
  const { counts, warnings, rendered } = file.summary.notes;
  if (counts.longest <= limit.maxTokens) return rows;

  const records = async function* (): AsyncGenerator<ExampleRecord> {
    for (let first = 0; first < file.count; first += SCAN_RECORDS) {
      yield* file.records(first, Math.min(SCAN_RECORDS, file.count - first));
      await giveTurn(signal);
    }
  };
  const lengthOf = (record: ExampleRecord) =>
    longestOf === null || record.codes <= limit.maxTokens ? record.codes : longestOf(file.codes(record));
  const before = faults.count;
  for await (const record of records()) {
    const fault = limit.faultOf(lengthOf(record));
    if (fault !== null) faults.add({ ...fault, line: record.line });
  }
  if (faults.count > before) return null;

  return await store.select(rows, async (add) => {
    const fitted = { ...counts };
    const leftOut = { pieces: 0, tokens: 0, line: 0 };
    for await (const record of records()) {
      if (lengthOf(record) <= limit.maxTokens) {
        add(record);
        continue;
      }
      fitted.overflowed++;
      const { outcome, pieces, leftOut: others } = limit.fit(file.codes(record));
      fitted[outcome]++;
      for (const { start, tokens, trained } of pieces) {
        add({ ...record, start: record.start + start, codes: tokens, trained });
      }
      if (others.length > 0 && leftOut.pieces === 0) leftOut.line = record.line;
      leftOut.pieces += others.length;
      for (const { tokens } of others) leftOut.tokens += tokens;
    }
    const notes: ExampleNotes = { counts: fitted, warnings: [...warnings, ...leftOutWarnings(leftOut)], rendered };
    return notes;
  });
}

function leftOutWarnings({ pieces, tokens, line }: { pieces: number; tokens: number; line: number }): Fault[] {
  if (pieces === 0) return [];
  const message =
    `${pieces} pieces of split rows, with ${tokens} tokens, are left out: no token in them is trained. The first is of ` +
    `line ${line}. Raise training.max_seq_length to keep more of them.`;
  return [{ code: 'untrained_sequences_dropped', message, line }];
}
