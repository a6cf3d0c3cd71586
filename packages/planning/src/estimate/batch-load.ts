import type { JobSpec } from '@lorasmith/contracts';
import { LEAST_SHARED } from '@lorasmith/model-folder';
import type { Examples } from '../example-file/examples.js';
import type { ExampleLoad } from '../objectives/objective.js';
import { loadOf } from '../objectives/objectives.js';
import { evaluationBatches, rowOrderOf } from '../row-order.js';
import type { StepCounts } from '../schedule.js';

/** Sizes of a job's micro-batches: memory depends on the largest, time on the sums. */
export interface BatchLoad {
  /** Tokens (rows, for a classifier) that a pass over the largest micro-batch computes. */
  mostTokens: number;
  /** The most tokens of a micro-batch that repeat a prompt of an earlier row. Only attention computes with them again. @defaultValue 0 */
  mostRepeated?: number;
  /** Labels of the micro-batch that has the most. */
  mostLabels: number;
  /** Length of the longest row. */
  longestRow: number;
  /** Mean per step, over the steps that were read, as are the next four. */
  tokensPerStep: number;
  /** Mean of repeated tokens, those of a prompt that all rows begin with included. Memory leaves these out. @defaultValue 0 */
  repeatedPerStep?: number;
  labelsPerStep: number;
  /** Sum of the squared row lengths: the work of attention is proportional to it. */
  squaresPerStep: number;
  microBatchesPerStep: number;
}

/** The sizes of the largest pass, which memory depends on. */
export type LargestPass = Pick<BatchLoad, 'mostTokens' | 'mostRepeated' | 'mostLabels' | 'longestRow'>;

/** A job may have millions of steps. The batches of this many, or of this many examples, represent the others. */
const MOST_STEPS = 20_000;
const MOST_EXAMPLES = 500_000;

/** The settings of a job that its micro-batches depend on. */
type LoadSettings = Pick<JobSpec, 'objective' | 'training' | 'lora'>;

/** The sizes of an evaluation's micro-batches, all together as one step: the examples in their order. */
export function evaluationLoad(examples: Examples, settings: LoadSettings, passTokens: number): BatchLoad {
  const sum = new LoadSum(examples, settings);
  for (const microBatch of evaluationBatches(examples, settings, passTokens)) {
    if (sum.examples >= MOST_EXAMPLES) break;
    sum.add(microBatch);
  }
  // What was read represents the others.
  return sum.perStep(sum.examples / examples.count);
}

/** The sizes of the micro-batches that the job will train on, as means per step. */
export function batchLoad(examples: Examples, settings: LoadSettings, steps: StepCounts): BatchLoad {
  const order = rowOrderOf(examples, settings);
  const sum = new LoadSum(examples, settings);
  let stepsRead = 0;
  while (stepsRead < Math.min(steps.total, MOST_STEPS) && sum.examples < MOST_EXAMPLES) {
    for (const microBatch of order.rowsOf(stepsRead).microBatches) sum.add(microBatch);
    stepsRead++;
  }
  return sum.perStep(stepsRead);
}

/** The largest of some micro-batches, and their sums. */
class LoadSum {
  examples = 0;
  readonly #examples: Examples;
  readonly #load: ExampleLoad;
  /** Length of the prefix that all rows share. It is computed once. */
  readonly #common: number;
  readonly #most: Required<LargestPass> = { mostTokens: 0, mostRepeated: 0, mostLabels: 0, longestRow: 0 };
  readonly #sums = { tokens: 0, repeated: 0, labels: 0, squares: 0, microBatches: 0 };

  constructor(examples: Examples, settings: LoadSettings) {
    this.#examples = examples;
    this.#load = loadOf(examples, settings.objective);
    this.#common = settings.lora.dropout > 0 ? 0 : this.#load.commonOf(examples);
  }

  add(microBatch: ArrayLike<number>): void {
    const [examples, most, sums] = [this.#examples, this.#most, this.#sums];
    let [tokens, repeated, labels] = [0, 0, 0];
    for (let i = 0; i < microBatch.length; i++) {
      const index = microBatch[i]!;
      const length = this.#load.tokensOf(examples.lengthOf(index));
      const own = this.#load.sizesOf(examples, index);
      tokens += length;
      repeated += own.repeated;
      labels += own.labels;
      sums.squares += length ** 2 / this.#load.sequences;
      most.longestRow = Math.max(most.longestRow, own.longest);
    }
    if (repeated < LEAST_SHARED * tokens) repeated = 0;
    tokens -= repeated;
    most.mostTokens = Math.max(most.mostTokens, tokens);
    most.mostRepeated = Math.max(most.mostRepeated, repeated);
    most.mostLabels = Math.max(most.mostLabels, labels);
    const common = this.#common * (microBatch.length - 1);
    // Memory is planned without it: rows that were not compared may begin otherwise.
    const shared = common < LEAST_SHARED * tokens ? 0 : common;
    sums.tokens += tokens - shared;
    sums.repeated += repeated + shared;
    sums.labels += labels;
    sums.microBatches += 1;
    this.examples += microBatch.length;
  }

  perStep(steps: number): BatchLoad {
    const { tokens, repeated, labels, squares, microBatches } = this.#sums;
    return {
      ...this.#most,
      tokensPerStep: tokens / steps,
      repeatedPerStep: repeated / steps,
      labelsPerStep: labels / steps,
      squaresPerStep: squares / steps,
      microBatchesPerStep: microBatches / steps,
    };
  }
}
