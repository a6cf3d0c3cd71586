import { createPromptEncoder, lengthsOf, lengthWarnings, tokensDependOn } from '../next-token/next-token.js';
import { REMARK_WARNINGS } from '../next-token/token-row-converter.js';
import type { Objective } from '../objective.js';
import { answerEncoder } from './answer-encoder.js';
import { longerOf, StoredPairs } from './pair-examples.js';
import { PAIR_FORMATS } from './pair-formats.js';
import { PairLimit } from './pair-limit.js';
import { PairRowConverter } from './pair-row-converter.js';
import { preferenceFaults } from './preference-faults.js';

/** The chosen of two answers to a prompt becomes more likely than the rejected one. */
export const preference: Objective = {
  kind: 'preference',
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
  settingsFaults: preferenceFaults,
  examples: (source) => new StoredPairs(source),
  checkTargets: null,
  checkRows: null,
  warnings: lengthWarnings,
};
