import { setImmediate } from 'node:timers/promises';
import type { ModelFolder } from '@lorasmith/model-folder';
import { throwIfPlanningStopped } from '../fault-list.js';
import type { Objective } from '../objectives/objective.js';
import { BitSet } from '../validation-split.js';
import type { ExampleFile } from './example-file.js';
import type { Examples } from './examples.js';

/** Records between two yields to the event loop: some milliseconds. */
const SCAN_RECORDS = 40_000;

/** All examples of a file, as one split. @throws ProductError `cancelled` */
export async function allExamples(
  file: ExampleFile,
  objective: { objective: Objective; model: ModelFolder },
  signal?: AbortSignal,
): Promise<Examples> {
  return (await splitExamples(file, new BitSet(0), objective, signal)).training;
}

/**
 * The two splits of a file of examples, with one bit in memory for each example.
 *
 * @param heldOut rows of the dataset, by their index
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function splitExamples(
  file: ExampleFile,
  heldOut: BitSet,
  { objective, model }: { objective: Objective; model: ModelFolder },
  signal?: AbortSignal,
): Promise<{ training: Examples; validation: Examples }> {
  const isHeldOut = heldOut.size > 0 ? new BitSet(file.count) : null;
  const [training, validation] = [noTotals(), noTotals()];
  const { tokensOf } = objective;
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    let index = first;
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      const isValidation = heldOut.has(record.row);
      if (isValidation) isHeldOut!.add(index);
      const totals = isValidation ? validation : training;
      const tokens = tokensOf(record);
      totals.count++;
      totals.tokens += tokens;
      totals.trainedTokens += record.trained;
      totals.longest = Math.max(totals.longest, tokens);
      index++;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  const splitOf = (totals: typeof training, indexInFile: (index: number) => number): Examples =>
    objective.examples({ file, totals, indexInFile, tokensOf }, model);
  if (isHeldOut === null)
    return { training: splitOf(training, (index) => index), validation: splitOf(validation, none) };
  return {
    training: splitOf(training, (index) => isHeldOut.nth(index, false)),
    validation: splitOf(validation, (index) => isHeldOut.nth(index, true)),
  };
}

function noTotals() {
  return { count: 0, tokens: 0, trainedTokens: 0, longest: 0 };
}

function none(): never {
  throw new Error('no example is held out');
}
