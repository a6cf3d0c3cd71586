import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { Fault } from '@lorasmith/contracts';
import { ModelTexts } from '@lorasmith/model-folder';
import type { ExampleNotes, ExampleRecord } from './example-file/example-file.js';
import type { ExampleStore, OpenExamples, StoredExamples } from './example-file/example-store.js';
import { FaultList, yieldToEvents } from './fault-list.js';
import type { LengthLimit } from './objectives/next-token/length-limit.js';
import type { Objective, ObjectiveJob, RowsOfModel } from './objectives/objective.js';
import { objectiveFor } from './objectives/objectives.js';
import { convertRows, type TokenizingProgress } from './row-conversion/convert-rows.js';

interface RowSources {
  rowsFile: string;
  examples: ExampleStore;
  /** @defaultValue the tokenizer is loaded for this call */
  texts?: ModelTexts | undefined;
  /** Called when rows begin to be tokenized, then at most twice a second, and at the end; not when their tokens are stored. */
  onProgress?: ((progress: TokenizingProgress) => void) | undefined;
  /** Most threads that tokenize. @defaultValue one for each core */
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface PrepareTokensOptions extends RowsOfModel, RowSources {}

export interface PrepareExamplesOptions extends ObjectiveJob, RowSources {
  objective: Objective;
  /** Receives what is wrong with rows. */
  faults: FaultList;
}

/**
 * Raise it with every change to what becomes of a row: stored examples are then made again. A test compares the examples of
 * known rows with what they were.
 */
const CONVERSION = 5;

/** A thread first loads the tokenizer and meets every word anew, which takes about as long as converting so much. */
const BYTES_PER_THREAD = 4_000_000;

/**
 * The examples of a job's dataset. Its rows are stored as tokens, whole; if they are not yet, they are made in one pass.
 * Then they are fitted into the length that the job allows.
 *
 * @returns null when rows have faults; those are in the list then
 * @throws ProductError of the tokenizer and the chat template, and what {@link convertRows} throws
 */
export async function prepareExamples(options: PrepareExamplesOptions): Promise<OpenExamples | null> {
  const { objective, examples: store, faults, signal } = options;
  const limit = objective.lengthLimit(options);
  const { completion_format: completionFormat } = options.spec.training;
  const rows = await openRows({ ...options, completionFormat }, limit);
  if (rows === null || limit === null) return rows;
  let fitted: OpenExamples | null = null;
  try {
    fitted = await fitExamples(rows, { limit, longestOf: objective.longestOf, store, faults, signal });
    return fitted;
  } finally {
    if (fitted === null) await rows.close();
  }
}

/**
 * Stores the rows of a dataset as tokens of a model, unless they are stored. A job on both then reads them.
 *
 * @throws ProductError like {@link prepareExamples}; with the code of the first fault of the rows, and up to 100 of them in
 * `details`; `dataset_format_mismatch` when the model is not trained on such rows
 */
export async function prepareTokens(options: PrepareTokensOptions): Promise<void> {
  const faults = new FaultList();
  const objective = objectiveFor(options.model, options.dataset);
  const rows = await openRows({ ...options, objective, faults }, null);
  await rows?.close();
  faults.throwIfAny();
}

/**
 * The stored tokens of a dataset's rows for a model. They are not read.
 *
 * @returns null when they are not
 * @throws ProductError `dataset_format_mismatch` when the model is not trained on such rows
 */
export async function storedTokens({
  examples,
  ...rows
}: RowsOfModel & { examples: ExampleStore }): Promise<StoredExamples | null> {
  return await examples.find(await idOf({ ...rows, objective: objectiveFor(rows.model, rows.dataset) }));
}

async function openRows(
  options: Omit<PrepareExamplesOptions, 'spec'> & RowsOfModel,
  limit: LengthLimit | null,
): Promise<OpenExamples | null> {
  const { examples, faults, signal, texts = new ModelTexts() } = options;
  const id = await idOf(options);
  const known = await examples.open(id, signal);
  if (known !== null) return known;
  const lengthFault = limit === null ? undefined : (tokens: number) => limit.faultOf(tokens);
  return await examples.make(
    id,
    async (writer) => {
      const converted = await convertRows({ ...options, texts, writer, lengthFault, threads: threadsFor(options) });
      if (converted.faults !== null) faults.addAll(converted.faults);
      return converted.notes;
    },
    signal,
  );
}

function threadsFor({
  dataset,
  threads = availableParallelism(),
}: Pick<PrepareExamplesOptions, 'dataset' | 'threads'>) {
  return Math.max(1, Math.min(threads, Math.floor(dataset.bytes / BYTES_PER_THREAD)));
}

/** Its digest covers everything that the examples are made from. What only cuts, splits or orders them is not in it. */
async function idOf({ objective, model, dataset, completionFormat }: RowsOfModel & { objective: Objective }) {
  const { id, sha256, format, created_at } = dataset;
  const dependsOn = await objective.examplesDependOn({ model, dataset, completionFormat });
  const all = JSON.stringify([CONVERSION, { sha256, format, created_at }, dependsOn]);
  return { dataset: id, digest: createHash('sha256').update(all).digest('hex') };
}

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
      await yieldToEvents(signal);
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
    const leftOut = { sequences: 0, tokens: 0, line: 0 };
    for await (const record of records()) {
      if (lengthOf(record) <= limit.maxTokens) {
        add(record);
        continue;
      }
      fitted.overflowed++;
      const { outcome, sequences, leftOut: others } = limit.fit(file.codes(record));
      fitted[outcome]++;
      for (const { start, tokens, trained } of sequences) {
        add({ ...record, start: record.start + start, codes: tokens, trained });
      }
      if (others.length > 0 && leftOut.sequences === 0) leftOut.line = record.line;
      leftOut.sequences += others.length;
      for (const { tokens } of others) leftOut.tokens += tokens;
    }
    const notes: ExampleNotes = { counts: fitted, warnings: [...warnings, ...leftOutWarnings(leftOut)], rendered };
    return notes;
  });
}

function leftOutWarnings({ sequences, tokens, line }: { sequences: number; tokens: number; line: number }): Fault[] {
  if (sequences === 0) return [];
  const message =
    `${sequences} pieces of split rows, with ${tokens} tokens, are left out: no token in them is trained. The first is of ` +
    `line ${line}. Raise training.max_seq_length to keep more of them.`;
  return [{ code: 'untrained_sequences_dropped', message, line }];
}
