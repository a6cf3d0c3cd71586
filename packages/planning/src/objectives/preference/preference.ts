import { hasReference, type RowTokens } from '@lorasmith/contracts';
import type { Tokenizer } from '@lorasmith/model-folder';
import { type ExampleLoad, type NamedObjective, ONE_SEQUENCE, repeatedOf } from '../example-load.js';
import type { LengthLimit } from '../next-token/length-limit.js';
import { createPromptEncoder, lengthsOf, lengthWarnings, tokensDependOn } from '../next-token/next-token.js';
import { tokensOf } from '../next-token/row-tokens.js';
import { codesOfSequence, trainedOf } from '../next-token/token-examples.js';
import { REMARK_WARNINGS } from '../next-token/token-row-converter.js';
import type { Objective, RowView } from '../objective.js';
import { answerEncoder } from './answer-encoder.js';
import { longerOf, type PairExamples, pairOfCodes, StoredPairs, type TokenPair } from './pair-examples.js';
import { PAIR_FORMATS } from './pair-formats.js';
import { PairLimit } from './pair-limit.js';
import { PairRowConverter } from './pair-row-converter.js';
import { preferenceFaults } from './preference-faults.js';

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

/** Both sequences of a pair, with what becomes of each. @param codes of the whole row */
function viewPair(codes: Int32Array, limit: LengthLimit, tokenizer: Tokenizer): RowView {
  const longest = longerOf(codes);
  const isRefused = limit.faultOf(longest) !== null;
  const outcome = longest <= limit.maxTokens ? 'complete' : isRefused ? 'refused' : limit.fit(codes).outcome;
  const { chosen, rejected } = pairOfCodes(codes);
  const view = (sequence: TokenPair['chosen']): RowTokens => {
    const tokens = Math.min(sequence.ids.length, limit.maxTokens);
    const piece = { start: 0, tokens, trained: trainedOf({ trained: sequence.trained.subarray(0, tokens) }) };
    const isTrained = outcome === 'complete' || outcome === 'truncated';
    return tokensOf(codesOfSequence(sequence), { outcome, pieces: isTrained ? [piece] : [] }, tokenizer);
  };
  return { tokens: view(chosen), rejected_tokens: view(rejected) };
}
