import {
  hasReference,
  isLabelLoss,
  LABEL_LOSSES,
  PAIR_LOSSES,
  type PreferenceLoss,
  type PreferenceObjective,
  type RowTokens,
  SMOOTHED_LOSSES,
} from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import type { CodedFault } from '../../fault-list.js';
import { REMARK_WARNINGS } from '../next-token/encode-row.js';
import { type FittedRow, LengthLimit, type RowView, tokensOf } from '../next-token/length-limit.js';
import { createPromptEncoder, lengthsOf, lengthWarnings, tokensDependOn } from '../next-token/next-token.js';
import { codesOfSequence, trainedOf } from '../next-token/token-examples.js';
import {
  type ExampleLoad,
  type NamedObjective,
  type Objective,
  type ObjectiveJob,
  ONE_SEQUENCE,
  repeatedOf,
} from '../objective.js';
import { answerEncoder } from './answer-encoder.js';
import {
  lengthOfFirst,
  longerOf,
  PAIR_FORMATS,
  type PairExamples,
  PairRowConverter,
  pairOfCodes,
  StoredPairs,
  type TokenPair,
} from './pair-rows.js';

/** The members that all objectives of pairs have in common: their rows and what these become. */
export const ofPairs = {
  modelKind: 'decoder',
  formats: PAIR_FORMATS,
  rows: 'pairs of answers: "chosen" and "rejected"',
  examplesDependOn: async ({ model, completionFormat }) => ({ ...(await tokensDependOn(model)), completionFormat }),
  createConverter: async (rows, texts) => new PairRowConverter(await answerEncoder(rows, texts)),
  createPromptEncoder,
  remarkWarnings: REMARK_WARNINGS,
  lengthLimit: (job) => new PairLimit(lengthsOf(job)),
  tokensOf: ({ codes }) => codes,
  longestOf: longerOf,
  view: viewPair,
  checkRows: null,
  warnings: lengthWarnings,
  findings: async ({ count }) => ({ report: { preference: { pairs: count, reference_accuracy: null } }, warnings: [] }),
} satisfies Omit<Objective, 'kind' | 'named' | 'settingsFaults' | 'examples' | 'load'>;

/** The chosen of two answers to a prompt becomes more likely than the rejected one. */
export const preference: Objective<PairExamples> = {
  ...ofPairs,
  kind: 'preference',
  named: 'preference',
  settingsFaults: preferenceFaults,
  examples: (source) => new StoredPairs(source, 'preference'),
  load: preferenceLoad,
};

const SEQUENCES = 2;

/**
 * Pairs of answers to a prompt. The tokens of a pair besides its answers are the prompt, twice.
 * @param loss `hasReference`: it compares with the base model's answers; `likesPrompts`: it has the likelihood of the prompt, too
 */
export function pairLoad({
  hasReference,
  likesPrompts,
}: {
  hasReference: boolean;
  likesPrompts: boolean;
}): ExampleLoad {
  return {
    ...ONE_SEQUENCE,
    sequences: SEQUENCES,
    hasReference,
    sizesOf(examples, index) {
      const tokens = examples.lengthOf(index);
      const answers = examples.labelsOf(index);
      const prompt = (tokens - answers) / SEQUENCES;
      const labels = likesPrompts ? answers + prompt : answers;
      // One of both may be nearly all of it.
      return { longest: tokens, labels, repeated: likesPrompts ? 0 : repeatedOf(prompt, SEQUENCES) };
    },
  };
}

function preferenceLoad(objective: NamedObjective): ExampleLoad {
  const likesPrompts = objective?.kind === 'preference' && objective.loss === 'orpo' && objective.sft_weight > 0;
  return pairLoad({ hasReference: readsReference(objective), likesPrompts });
}

/** True if the loss compares with the base model's answers. */
export function readsReference(objective: NamedObjective): boolean {
  return objective?.kind === 'preference' && hasReference(objective.loss);
}

/** Both sequences of a pair, with the outcome of each. @param codes of the whole row */
function viewPair(codes: Int32Array, limit: LengthLimit, tokenizer: Tokenizer): RowView {
  const longest = longerOf(codes);
  const isRefused = limit.faultOf(longest) !== null;
  const outcome = longest <= limit.maxTokens ? 'complete' : isRefused ? 'refused' : limit.fit(codes).outcome;
  const { chosen, rejected } = pairOfCodes(codes);
  const view = (sequence: TokenPair['chosen']): RowTokens => {
    const tokens = Math.min(sequence.ids.length, limit.maxTokens);
    const kept = { start: 0, tokens, trained: trainedOf({ trained: sequence.trained.subarray(0, tokens) }) };
    const isTrained = outcome === 'complete' || outcome === 'truncated';
    return tokensOf(codesOfSequence(sequence), { outcome, sequences: isTrained ? [kept] : [] }, tokenizer);
  };
  return { tokens: view(chosen), rejected_tokens: view(rejected) };
}

/** The settings of a job on pairs of answers that contradict each other. */
export function preferenceFaults(job: ObjectiveJob): CodedFault[] {
  const { objective } = job.spec;
  if (objective?.kind !== 'preference') {
    const message = `The dataset has pairs of a chosen and a rejected answer (format ${job.dataset.format}). Set objective to {"kind": "preference"}, over the OpenAI API method to {"type": "dpo"}.`;
    return [fault('objective', message)];
  }
  const faults = answerSettingsFaults(job, objective);
  if (isLabelLoss(objective.loss)) {
    const message = `The loss ${objective.loss} is of answers with a label, and the dataset has pairs. Choose another loss, or send rows of {"prompt", "completion", "label"}.`;
    faults.push(fault('objective.loss', message));
  }
  return faults;
}

/** Settings that only some losses have, with the value that changes nothing. */
const SETTINGS_OF_LOSSES = {
  label_smoothing: { neutral: 0, losses: SMOOTHED_LOSSES },
  gamma: { neutral: 0, losses: ['simpo'] },
  sft_weight: { neutral: 0, losses: PAIR_LOSSES },
  desirable_weight: { neutral: 1, losses: LABEL_LOSSES },
  undesirable_weight: { neutral: 1, losses: LABEL_LOSSES },
} as const satisfies Partial<Record<keyof PreferenceObjective, { neutral: number; losses: readonly PreferenceLoss[] }>>;

/** The settings that no objective of answers that are judged as a whole can have. */
export function judgedAnswerFaults({ spec: { lora, training } }: ObjectiveJob): CodedFault[] {
  const faults: CodedFault[] = [];
  if (lora.dropout > 0) {
    const message =
      'An objective of preferences is trained without dropout: the same answer would get another reward each time, and not that of the reference. Set lora.dropout to 0.';
    faults.push(fault('lora.dropout', message));
  }
  if (training.on_overflow === 'split') {
    const message =
      'An answer that is judged cannot be split: it is compared as a whole. Set training.on_overflow to error, drop or truncate.';
    faults.push(fault('training.on_overflow', message));
  }
  return faults;
}

/** The settings that an objective of preferences cannot have, or not with this loss. */
export function answerSettingsFaults(job: ObjectiveJob, objective: PreferenceObjective): CodedFault[] {
  const faults = judgedAnswerFaults(job);
  const names = Object.keys(SETTINGS_OF_LOSSES) as (keyof typeof SETTINGS_OF_LOSSES)[];
  for (const name of names) {
    const { neutral, losses } = SETTINGS_OF_LOSSES[name];
    if (objective[name] === neutral || (losses as readonly PreferenceLoss[]).includes(objective.loss)) continue;
    const have = losses.length === 1 ? `only ${losses[0]} has it` : `${losses.join(', ')} have it`;
    const message = `The loss ${objective.loss} has no ${name}; ${have}. Leave it out.`;
    faults.push(fault(`objective.${name}`, message));
  }
  return faults;
}

function fault(param: string, message: string): CodedFault {
  return { code: 'invalid_job', message, param };
}

/** The limit of tokens of each sequence of a pair. Both are cut alike; a pair of which one has nothing to train left is dropped. */
export class PairLimit extends LengthLimit {
  protected override readonly outcomes = 'drop or truncate';

  override fit(codes: Int32Array): FittedRow {
    const dropped: FittedRow = { outcome: 'dropped', sequences: [], leftOut: [] };
    if (this.onOverflow !== 'truncate') return dropped;
    const middle = lengthOfFirst(codes);
    const start = Math.max(0, middle - this.maxTokens);
    const end = Math.min(codes.length, middle + this.maxTokens);
    const { chosen, rejected } = pairOfCodes(codes.subarray(start, end));
    const [ofChosen, ofRejected] = [chosen, rejected].map(trainedOf) as [number, number];
    if (ofChosen === 0 || ofRejected === 0) return dropped;
    const kept = { start, tokens: end - start, trained: ofChosen + ofRejected };
    return { outcome: 'truncated', sequences: [kept], leftOut: [] };
  }
}
