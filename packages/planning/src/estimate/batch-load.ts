import type { JobSpec } from '@lorasmith/contracts';
import { LEAST_SHARED } from '@lorasmith/model-folder';
import type { StepCounts } from '../count-steps.js';
import { evaluationBatches, tokensOf } from '../evaluation-batches.js';
import type { Examples } from '../objectives/examples.js';
import { rowOrderOf } from '../row-order.js';

/** How much a job's micro-batches hold: the largest decides memory, the sums decide time. */
export interface BatchLoad {
  /** Tokens (rows, for a classifier) that a pass over the largest micro-batch computes. */
  mostTokens: number;
  /** The most tokens that the rows of a micro-batch share with rows before them. Attention alone reads these again. @defaultValue 0 */
  mostRepeated?: number;
  /** Labels of the micro-batch that has the most. */
  mostLabels: number;
  /** Length of the longest row. */
  longestRow: number;
  /** Means per step, over the steps that were read: */
  tokensPerStep: number;
  /** Mean of {@link mostRepeated}. @defaultValue 0 */
  repeatedPerStep?: number;
  labelsPerStep: number;
  /** Sum of the squared row lengths: what attention grows with. */
  squaresPerStep: number;
  microBatchesPerStep: number;
}

/** The sizes that the memory of a pass depends on. */
export type PassLoad = Pick<BatchLoad, 'mostTokens' | 'mostRepeated' | 'mostLabels' | 'longestRow'>;

/** A job may have millions of steps. The batches of this many, or of this many examples, represent the others. */
const MOST_STEPS = 20_000;
const MOST_EXAMPLES = 500_000;

/** The settings of a job that its micro-batches depend on. */
type LoadSettings = Pick<JobSpec, 'objective' | 'training' | 'lora'>;

/** The micro-batches of an evaluation, all together as one step: the examples in their order. */
export function evaluationLoad(examples: Examples, settings: LoadSettings, passTokens: number): BatchLoad {
  const sum = new LoadSum(examples, settings);
  for (const microBatch of evaluationBatches(examples, settings, passTokens)) {
    if (sum.examples >= MOST_EXAMPLES) break;
    sum.add(microBatch);
  }
  // What was read represents the others.
  return sum.perStep(sum.examples / examples.count);
}

/** Reads the same micro-batches that the job will train on. */
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

/** Sequences of an example. The two of a pair are taken to be equally long. */
export function sequencesOf({ kind }: Examples, objective: JobSpec['objective']): number {
  return objective?.kind === 'group-relative' ? objective.group_size : kind === 'preference' ? 2 : 1;
}

/** Tokens of an example that are the prompt of a sequence after the first. The last of a prompt is computed in each. */
function repeatedOf(examples: Examples, index: number, objective: JobSpec['objective']): number {
  if (examples.kind !== 'preference' && examples.kind !== 'group-relative') return 0;
  if (likesPrompts(objective)) return 0;
  const sequences = sequencesOf(examples, objective);
  const prompts = examples.lengthOf(index) - examples.labelsOf(index);
  const prompt = examples.kind === 'preference' ? prompts / sequences : examples.lengthOf(index);
  return (sequences - 1) * Math.max(0, Math.floor(prompt) - 1);
}

/** The losses that have the likelihood of the prompt, too, as that of `orpo`. */
function likesPrompts(objective: JobSpec['objective']): boolean {
  return objective?.kind === 'preference' && objective.loss === 'orpo' && objective.sft_weight > 0;
}

/** Labels of an example. The tokens of a pair besides its answers are the prompt, twice. */
function labelsOf(examples: Examples, index: number, objective: JobSpec['objective']): number {
  if (objective?.kind === 'group-relative') return objective.group_size * objective.max_completion_tokens;
  const answers = examples.labelsOf(index);
  return likesPrompts(objective) ? answers + (examples.lengthOf(index) - answers) / 2 : answers;
}

/** So many rows, evenly spread, represent the others where what all begin with is asked. */
const ROWS_COMPARED = 64;

/**
 * Tokens that all rows begin with, up to the first that predicts a label of one: those of a template, or of instructions that all have.
 * Rows may share more with some others; that is not known before.
 */
function commonBeginning(examples: Examples, { lora }: LoadSettings): number {
  if (examples.kind !== 'next-token' || lora.dropout > 0) return 0;
  const { ids: first } = examples.sequence(0);
  let common = first.length;
  for (let index = 0; index < examples.count && common > 0; index += Math.ceil(examples.count / ROWS_COMPARED)) {
    const { ids, trained } = examples.sequence(index);
    const label = trained.indexOf(1, 1);
    common = Math.min(common, label === -1 ? ids.length : label - 1);
    const other = ids.subarray(0, common).findIndex((id, token) => id !== first[token]);
    if (other !== -1) common = other;
  }
  return common;
}

/** The largest of some micro-batches, and their sums. */
class LoadSum {
  examples = 0;
  readonly #examples: Examples;
  readonly #objective: JobSpec['objective'];
  /** See {@link commonBeginning}. */
  readonly #common: number;
  readonly #most: Required<PassLoad> = { mostTokens: 0, mostRepeated: 0, mostLabels: 0, longestRow: 0 };
  readonly #sums = { tokens: 0, repeated: 0, labels: 0, squares: 0, microBatches: 0 };

  constructor(examples: Examples, settings: LoadSettings) {
    this.#examples = examples;
    this.#objective = settings.objective;
    this.#common = commonBeginning(examples, settings);
  }

  add(microBatch: ArrayLike<number>): void {
    const [examples, most, sums] = [this.#examples, this.#most, this.#sums];
    let [tokens, repeated, labels] = [0, 0, 0];
    for (let i = 0; i < microBatch.length; i++) {
      const index = microBatch[i]!;
      const length = tokensOf(examples, index, this.#objective);
      const sequences = sequencesOf(examples, this.#objective);
      tokens += length;
      repeated += repeatedOf(examples, index, this.#objective);
      labels += labelsOf(examples, index, this.#objective);
      sums.squares += length ** 2 / sequences;
      // Of a pair, both sequences: one may be nearly all of it.
      most.longestRow = Math.max(most.longestRow, examples.kind === 'group-relative' ? length / sequences : length);
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
