import type { JobSpec } from '@lorasmith/contracts';
import type { Examples } from '../example-file/examples.js';

/** The work that the examples of an objective are: orders, evaluations and estimates ask for nothing else. */
export interface ExampleLoad<Of extends Examples = Examples> {
  /** Sequences of an example. The two of a pair are taken to be equally long. */
  readonly sequences: number;
  /** Steps one after the other that train on the same examples. */
  readonly updates: number;
  /** True if every epoch has the order of the first, so that examples that are compared with each other are always the same. */
  readonly keepsOrder: boolean;
  /** The number of times that an evaluation reads each example. 0: it samples answers instead. */
  readonly readings: number;
  /** True if a reference reads all examples before the training. */
  readonly hasReference: boolean;
  /** The answers that are sampled to each example, and trained on; null where none are. */
  readonly answers: AnswersLoad | null;
  /** Tokens of all sequences of an example. @param length of the example */
  tokensOf(length: number): number;
  sizesOf(examples: Of, index: number): ExampleSizes;
  /** Tokens that all examples begin with, up to the first that predicts a label of one. */
  commonOf(examples: Of): number;
}

/** The answers to one prompt of a job that trains on them. */
export interface AnswersLoad {
  choices: number;
  /** Most tokens of an answer. */
  most: number;
  /** True if a reference reads the answers of each step. */
  hasReference: boolean;
}

/** The sizes of one example. */
export interface ExampleSizes {
  /** Tokens that memory takes to be one row. */
  longest: number;
  labels: number;
  /** Tokens that are the prompt of a sequence after the first. */
  repeated: number;
}

/** Examples of one sequence each, with labels of its own. */
export const ONE_SEQUENCE: ExampleLoad = {
  sequences: 1,
  updates: 1,
  keepsOrder: false,
  readings: 1,
  hasReference: false,
  answers: null,
  tokensOf: (length) => length,
  sizesOf: (examples, index) => ({
    longest: examples.lengthOf(index),
    labels: examples.labelsOf(index),
    repeated: 0,
  }),
  commonOf: () => 0,
};

/** The objective that a job names; undefined: none. */
export type NamedObjective = JobSpec['objective'];

/** Tokens of a prompt that sequences after the first share. The last of a prompt is computed in each. */
export function repeatedOf(prompt: number, sequences: number): number {
  return (sequences - 1) * Math.max(0, Math.floor(prompt) - 1);
}
