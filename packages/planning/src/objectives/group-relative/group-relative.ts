import type { GroupRelativeObjective, JobSpec } from '@lorasmith/contracts';
import { type CompiledGrader, compileGrader, GraderError, type OutsideGrader } from '@lorasmith/graders';
import type { CodedFault } from '../../fault-list.js';
import { REMARK_WARNINGS } from '../next-token/encode-row.js';
import { type FittedRow, LengthLimit, viewSequence } from '../next-token/length-limit.js';
import {
  createPromptEncoder,
  decoderOf,
  lengthsOf,
  lengthWarnings,
  rowEncoder,
  tokensDependOn,
} from '../next-token/next-token.js';
import {
  type ExampleLoad,
  type NamedObjective,
  type Objective,
  type ObjectiveJob,
  ONE_SEQUENCE,
  repeatedOf,
} from '../objective.js';
import { GradedRows } from './graded-rows.js';
import { PROMPT_FORMAT, type PromptExamples, PromptRowConverter, StoredPrompts } from './prompt-rows.js';

/** Sampled answers to a prompt become more likely if graders reward them more than the others. */
export const groupRelative: Objective<PromptExamples> = {
  kind: 'group-relative',
  named: 'group-relative',
  modelKind: 'decoder',
  formats: [PROMPT_FORMAT],
  rows: 'prompts that are answered and graded: "prompt" and "reference"',
  examplesDependOn: async ({ model, completionFormat }) => ({ ...(await tokensDependOn(model)), completionFormat }),
  async createConverter(rows, texts) {
    const { encoder, tokenizer } = await rowEncoder(rows, texts, true);
    const { vocabSize } = decoderOf(rows.model);
    return new PromptRowConverter({ encoder, tokenizer, vocabSize, completionFormat: encoder.completionFormat });
  },
  createPromptEncoder,
  remarkWarnings: REMARK_WARNINGS,
  lengthLimit(job) {
    const { maxLength, maxPositions, onOverflow } = lengthsOf(job);
    const wanted = groupsOf(job.spec)?.max_completion_tokens ?? 0;
    // One that leaves no room is a fault of the settings.
    const answer = wanted < Math.min(maxLength, maxPositions) ? wanted : 0;
    return new PromptLimit({ maxLength: maxLength - answer, maxPositions: maxPositions - answer, onOverflow });
  },
  tokensOf: ({ codes }) => codes,
  longestOf: null,
  settingsFaults,
  examples: (source) => new StoredPrompts(source),
  load: promptLoad,
  view: viewSequence,
  async checkRows({ spec }, rowsFile, faults, signal) {
    const groups = groupsOf(spec);
    const grader = groups && graderOf(groups);
    const { faultOf = null } = grader ?? {};
    if (faultOf === null) return null;
    const rows = await GradedRows.read(rowsFile, signal);
    rows.check(faultOf, faults);
    return rows;
  },
  warnings: lengthWarnings,
  async findings({ count, longest }, spec) {
    const groups = groupsOf(spec)!;
    const prompts = Math.min(count, spec.training.batch_size * spec.training.gradient_accumulation_steps);
    const answers = prompts * groups.group_size;
    const most = answers * (longest + groups.max_completion_tokens);
    return {
      report: { groups: { prompts: count, answers_per_step: answers, most_tokens_per_step: most } },
      warnings: [],
    };
  },
};

/** Prompts with several sampled answers each. An answer is taken to be as long as it may be. */
function promptLoad(objective: NamedObjective): ExampleLoad<PromptExamples> {
  const groups = groupsOf({ objective });
  if (groups === null) throw new Error('prompts are trained on with an objective of rewards');
  const { group_size: sequences, max_completion_tokens: most, updates_per_batch: updates } = groups;
  return {
    ...ONE_SEQUENCE,
    sequences,
    updates,
    readings: 0,
    answers: { choices: sequences, most, hasReference: groups.kl_weight > 0 },
    tokensOf: (prompt) => sequences * (prompt + most),
    sizesOf(examples, index) {
      const prompt = examples.lengthOf(index);
      return { longest: prompt + most, labels: sequences * most, repeated: repeatedOf(prompt, sequences) };
    },
  };
}

/** The settings of a job whose answers are sampled; null for another job. */
export function groupsOf({
  objective,
}: {
  objective?: JobSpec['objective'] | undefined;
}): GroupRelativeObjective | null {
  return objective?.kind === 'group-relative' ? objective : null;
}

/** The grader of a job, or what is wrong with its settings. */
function graderOf({
  grader,
}: GroupRelativeObjective): CompiledGrader | OutsideGrader | { kind: 'faulty'; faultOf: null; fault: CodedFault } {
  try {
    return compileGrader(grader);
  } catch (error) {
    if (!(error instanceof GraderError)) throw error;
    const param = `objective.grader.${error.param}`;
    return { kind: 'faulty', faultOf: null, fault: { code: 'invalid_job', message: error.message, param } };
  }
}

function settingsFaults({ spec, model, dataset }: ObjectiveJob): CodedFault[] {
  const fault = (param: string, message: string): CodedFault => ({ code: 'invalid_job', message, param });
  const groups = groupsOf(spec);
  if (groups === null) {
    const message = `The dataset has prompts whose answers are graded (format ${dataset.format}). Set objective to {"kind": "group-relative", "grader": {…}}.`;
    return [fault('objective', message)];
  }
  const grader = graderOf(groups);
  const faults = grader.kind === 'faulty' ? [grader.fault] : [];
  const { lora, training } = spec;
  if (lora.dropout > 0) {
    const message =
      'An objective of rewards is trained without dropout: answers are sampled without it, so their probabilities would be others. Set lora.dropout to 0.';
    faults.push(fault('lora.dropout', message));
  }
  if (training.on_overflow === 'split' || training.on_overflow === 'truncate') {
    const message = 'A prompt is not cut: set training.on_overflow to error or drop.';
    faults.push(fault('training.on_overflow', message));
  }
  const { maxLength, maxPositions } = lengthsOf({ spec, model });
  const most = Math.min(maxLength, maxPositions);
  if (groups.max_completion_tokens >= most) {
    const message = `max_completion_tokens ${groups.max_completion_tokens} leaves no room for a prompt: prompt and answer together have up to ${most} tokens (training.max_seq_length and the model's positions). Lower it.`;
    faults.push(fault('objective.max_completion_tokens', message));
  }
  return faults;
}

/** The limit of tokens of a prompt, which leaves enough for its answer. It is not cut: the end of a prompt is what is asked. */
export class PromptLimit extends LengthLimit {
  protected override readonly outcomes = 'drop';

  override fit(): FittedRow {
    return { outcome: 'dropped', sequences: [], leftOut: [] };
  }
}
