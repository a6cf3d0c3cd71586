import type { ExampleFile, ExampleRecord } from './example-file.js';

/** Examples of a job: those of what is trained on, or of what is held out. What one of them is, its objective says. */
export interface Examples {
  /** The kind of the objective. */
  readonly kind: string;
  /** Number of examples. */
  count: number;
  /** Tokens of all examples; a row of a classifier counts as one. */
  tokens: number;
  /** Targets of the loss among them. */
  trainedTokens: number;
  /** Tokens of the longest example; 1 for a classifier. */
  longest: number;
  /** Tokens of one example; 1 for a classifier. */
  lengthOf(index: number): number;
  /** Targets of the loss in it. */
  labelsOf(index: number): number;
  /** Line (from 1) of the dataset that it comes from. */
  lineOf(index: number): number;
}

/** The source of the examples of one split. */
export interface ExampleSource {
  file: ExampleFile;
  totals: Pick<Examples, 'count' | 'tokens' | 'trainedTokens' | 'longest'>;
  /** The index in the file of an example of this split. */
  indexInFile(index: number): number;
  tokensOf(record: ExampleRecord): number;
}

/** Reads each example from the file when it is asked for; an objective adds the meaning of its codes. */
export abstract class FileExamples implements Examples {
  abstract readonly kind: string;
  readonly count: number;
  readonly tokens: number;
  readonly trainedTokens: number;
  readonly longest: number;
  readonly #source: ExampleSource;

  constructor(source: ExampleSource) {
    const { count, tokens, trainedTokens, longest } = source.totals;
    this.count = count;
    this.tokens = tokens;
    this.trainedTokens = trainedTokens;
    this.longest = longest;
    this.#source = source;
  }

  lengthOf(index: number): number {
    return this.#source.tokensOf(this.#record(index));
  }

  labelsOf(index: number): number {
    return this.#record(index).trained;
  }

  lineOf(index: number): number {
    return this.#record(index).line;
  }

  protected codes(index: number): Int32Array {
    return this.#source.file.codes(this.#record(index));
  }

  protected firstCode(index: number): number {
    return this.#source.file.codes({ ...this.#record(index), codes: 1 })[0]!;
  }

  protected lastCode(index: number): number {
    const { start, codes, ...record } = this.#record(index);
    return this.#source.file.codes({ ...record, start: start + codes - 1, codes: 1 })[0]!;
  }

  #record(index: number): ExampleRecord {
    return this.#source.file.record(this.#source.indexInFile(index));
  }
}
