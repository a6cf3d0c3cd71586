import { setImmediate } from 'node:timers/promises';
import { BitSet } from '../bit-set.js';
import type { EncodedRow } from '../encode-segments.js';
import type { ExampleSide, Examples, FeatureExamples, TokenExamples } from '../examples.js';
import { throwIfPlanningStopped } from '../planning-stopped.js';
import type { ExampleFile } from './example-file.js';
import type { ExampleRecord } from './example-record.js';
import { featuresOfWords, sequenceOfWords } from './example-words.js';

/** Records between two turns of the event loop: some milliseconds. */
const SCAN_RECORDS = 40_000;

/**
 * The two sides of a file of examples, each read from the file when an example is asked for: in memory there is one bit
 * for each.
 *
 * @param heldOut rows of the dataset, by their place
 * @param width numbers of a row, for a classifier; null for tokens
 * @throws ProductError `cancelled` when the signal is aborted
 */
export async function splitExamples(
  file: ExampleFile,
  heldOut: BitSet,
  width: number | null,
  signal?: AbortSignal,
): Promise<{ training: Examples; validation: Examples }> {
  const isHeldOut = heldOut.size > 0 ? new BitSet(file.count) : null;
  const [training, validation] = [new Totals(), new Totals()];
  for (let first = 0; first < file.count; first += SCAN_RECORDS) {
    let number = first;
    for (const record of file.records(first, Math.min(SCAN_RECORDS, file.count - first))) {
      const side = heldOut.has(record.row);
      if (side) isHeldOut!.add(number);
      (side ? validation : training).add(record, width === null ? record.words : 1);
      number++;
    }
    await setImmediate();
    throwIfPlanningStopped(signal);
  }
  const sideOf = (totals: Totals, place: (index: number) => number): Examples =>
    width === null ? new TokenSide(file, totals, place) : new FeatureSide(file, totals, place, width);
  if (isHeldOut === null) return { training: sideOf(training, (index) => index), validation: sideOf(validation, none) };
  return {
    training: sideOf(training, (index) => isHeldOut.nth(index, false)),
    validation: sideOf(validation, (index) => isHeldOut.nth(index, true)),
  };
}

function none(): never {
  throw new Error('no example is held out');
}

class Totals {
  count = 0;
  tokens = 0;
  trainedTokens = 0;
  longest = 0;

  add({ trained }: ExampleRecord, tokens: number): void {
    this.count++;
    this.tokens += tokens;
    this.trainedTokens += trained;
    this.longest = Math.max(this.longest, tokens);
  }
}

abstract class Side implements ExampleSide {
  readonly count: number;
  readonly tokens: number;
  readonly trainedTokens: number;
  readonly longest: number;
  readonly #file: ExampleFile;
  readonly #place: (index: number) => number;

  /** @param place where in the file an example of this side is */
  constructor(file: ExampleFile, totals: Totals, place: (index: number) => number) {
    ({ count: this.count, tokens: this.tokens, trainedTokens: this.trainedTokens, longest: this.longest } = totals);
    this.#file = file;
    this.#place = place;
  }

  abstract lengthOf(number: number): number;

  labelsOf(number: number): number {
    return this.record(number).trained;
  }

  lineOf(number: number): number {
    return this.record(number).line;
  }

  protected record(number: number): ExampleRecord {
    return this.#file.record(this.#place(number));
  }

  protected words(number: number): Int32Array {
    return this.#file.words(this.record(number));
  }
}

class TokenSide extends Side implements TokenExamples {
  readonly kind = 'tokens';

  lengthOf(number: number): number {
    return this.record(number).words;
  }

  sequence(number: number): EncodedRow {
    return sequenceOfWords(this.words(number));
  }
}

class FeatureSide extends Side implements FeatureExamples {
  readonly kind = 'features';
  readonly width: number;

  constructor(file: ExampleFile, totals: Totals, place: (index: number) => number, width: number) {
    super(file, totals, place);
    this.width = width;
  }

  lengthOf(): number {
    return 1;
  }

  row(number: number): { features: Float32Array; label: number } {
    return featuresOfWords(this.words(number));
  }
}
