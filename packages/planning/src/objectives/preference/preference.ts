import type { ModelTexts } from '@lorasmith/model-folder';
import { RowEncoder } from '../next-token/encode-row.js';
import {
  createPromptEncoder,
  decoderOf,
  lengthsOf,
  lengthWarnings,
  rowEncoder,
  tokensDependOn,
} from '../next-token/next-token.js';
import { REMARK_WARNINGS } from '../next-token/token-row-converter.js';
import type { Objective, RowsOfModel } from '../objective.js';
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
  createConverter,
  createPromptEncoder,
  remarkWarnings: REMARK_WARNINGS,
  lengthLimit: (job) => new PairLimit(lengthsOf(job)),
  tokensOf: ({ codes }) => codes,
  longestOf: longerOf,
  settingsFaults: preferenceFaults,
  examples: (source) => new StoredPairs(source),
  checkTargets: null,
  warnings: lengthWarnings,
};

async function createConverter(rows: RowsOfModel, texts: ModelTexts): Promise<PairRowConverter> {
  const { vocabSize } = decoderOf(rows.model);
  const { encoder, tokenizer, endTokenIds } = await rowEncoder(rows, texts, true);
  const plainEncoder = new RowEncoder({ tokenizer, template: null, endTokenIds });
  return new PairRowConverter({
    encoder,
    plainEncoder,
    tokenizer,
    vocabSize,
    completionFormat: encoder.completionFormat,
  });
}
