import { createHash } from 'node:crypto';
import { convertRows } from './convert-rows.js';
import type { ExampleStore, OpenExamples } from './example-file/example-store.js';
import type { ExampleWriter } from './example-file/example-writer.js';
import { FaultList } from './fault-list.js';
import type { Objective, ObjectiveJob } from './objectives/objective.js';

export interface PrepareExamplesOptions extends ObjectiveJob {
  objective: Objective;
  rowsFile: string;
  examples: ExampleStore;
  /** Receives what is wrong with rows. */
  faults: FaultList;
  signal?: AbortSignal | undefined;
}

/**
 * Raise it with every change to what becomes of a row: stored examples are then made again. A test compares the examples of
 * known rows with what they were.
 */
const CONVERSION = 2;

/**
 * The examples of a job's dataset, from the store, or made in one pass over the rows and stored there.
 *
 * @returns null when rows have faults; those are in the list then, and nothing is stored
 * @throws ProductError of the tokenizer and the chat template, and what {@link convertRows} throws
 */
export async function prepareExamples(options: PrepareExamplesOptions): Promise<OpenExamples | null> {
  const { objective, dataset, rowsFile, examples, faults, signal } = options;
  const id = { dataset: dataset.id, digest: await digestOf(options) };
  const known = await examples.open(id, signal);
  if (known !== null) return known;
  const fill = async (writer: ExampleWriter) => {
    const converter = await objective.createConverter(options, writer);
    const found = new FaultList();
    await convertRows({ dataset, rowsFile, converter, faults: found, signal });
    faults.addAll(found);
    return found.isEmpty ? { counts: converter.counts, warnings: converter.warnings() } : null;
  };
  return await examples.make(id, fill, signal);
}

/** Of everything that the examples are made from. What only splits or orders them is not in it. */
async function digestOf(options: PrepareExamplesOptions): Promise<string> {
  const { sha256, format, created_at } = options.dataset;
  const dependsOn = await options.objective.examplesDependOn(options);
  const all = JSON.stringify([CONVERSION, { sha256, format, created_at }, dependsOn]);
  return createHash('sha256').update(all).digest('hex');
}
