import { type Fault, ProductError, type SamplePrompt } from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  digestTokenizer,
  loadChatTemplate,
  type ModelFolder,
  type ModelTexts,
} from '@lorasmith/model-folder';
import type { RowCounts } from '../../example-file/example-format.js';
import { ONE_SEQUENCE } from '../example-load.js';
import {
  type LimitedJob,
  type Objective,
  type ObjectiveJob,
  type PromptEncoder,
  type RowsOfModel,
  refuseObjective,
  type ScoredRow,
} from '../objective.js';
import { RowEncoder } from './encode-row.js';
import { LengthLimit, viewSequence } from './length-limit.js';
import { TEXT_FORMATS } from './row-formats.js';
import { StoredTokens, type TokenExamples } from './token-examples.js';
import { REMARK_WARNINGS, TokenRowConverter, tokenOutside } from './token-row-converter.js';

/** Each token is predicted from those before it; the loss counts the tokens that a row's mask selects. */
export const nextToken: Objective<TokenExamples> = {
  kind: 'next-token',
  named: null,
  modelKind: 'decoder',
  formats: TEXT_FORMATS,
  rows: 'text, for instance "messages"',
  examplesDependOn,
  createConverter,
  createPromptEncoder,
  remarkWarnings: REMARK_WARNINGS,
  lengthLimit,
  tokensOf: ({ codes }) => codes,
  longestOf: null,
  settingsFaults: refuseObjective,
  examples: (source) => new StoredTokens(source),
  load: () => ({ ...ONE_SEQUENCE, commonOf: commonBeginning }),
  view: viewSequence,
  scoredRow,
  checkRows: null,
  warnings: lengthWarnings,
};

async function examplesDependOn({ model, dataset, completionFormat }: RowsOfModel): Promise<object> {
  const ofPairs = isOfPairs(dataset) ? { completionFormat } : {};
  return { ...(await tokensDependOn(model)), ...ofPairs };
}

/** The parts of a model that decide what text becomes as tokens. */
export async function tokensDependOn(model: ModelFolder): Promise<object> {
  const { eosTokenIds: endTokenIds, vocabSize } = decoderOf(model);
  return { tokenizer: await digestTokenizer(model.path), endTokenIds, vocabSize };
}

async function createConverter(rows: RowsOfModel, texts: ModelTexts): Promise<TokenRowConverter> {
  const { vocabSize } = decoderOf(rows.model);
  // Rows of text have no turns, so a broken template does not matter to them.
  const { encoder, tokenizer } = await rowEncoder(rows, texts, rows.dataset.format !== 'text');
  const completionFormat = isOfPairs(rows.dataset) ? encoder.completionFormat : null;
  return new TokenRowConverter({ encoder, tokenizer, vocabSize, completionFormat });
}

export async function createPromptEncoder(
  rows: RowsOfModel,
  prompts: readonly SamplePrompt[],
  texts: ModelTexts,
): Promise<PromptEncoder> {
  const { vocabSize } = decoderOf(rows.model);
  const hasTurns = rows.dataset.format !== 'text' || prompts.some((prompt) => typeof prompt !== 'string');
  const { encoder } = await rowEncoder(rows, texts, hasTurns);
  return (prompt) => {
    const ids = encoder.encodePrompt(prompt, rows.dataset.format);
    const outside = ids.find((id) => id >= vocabSize);
    if (outside === undefined) return ids;
    throw new ProductError('model_file_corrupt', tokenOutside(outside, vocabSize, 'prompt'));
  };
}

/** True if the rows have a prompt and a completion, or an instruction and an output. */
function isOfPairs({ format }: RowsOfModel['dataset']): boolean {
  return format === 'prompt_completion' || format === 'instruction';
}

/** The encoder of a dataset's rows for a model, with its tokenizer. */
export async function rowEncoder(
  { model, dataset, completionFormat }: RowsOfModel,
  texts: ModelTexts,
  hasTurns: boolean,
) {
  const { tokenizer } = await texts.of(model.path);
  // A template that asks for the date gets that of the upload: the tokens are the same on whatever day a job is planned,
  // trained or resumed.
  const now = new Date(dataset.created_at);
  const template = hasTurns ? await loadChatTemplate(model.path, { now }) : null;
  const endTokenIds = [tokenizer.eosTokenId, ...decoderOf(model).eosTokenIds].filter((id) => id !== null);
  return { encoder: new RowEncoder({ tokenizer, template, endTokenIds, completionFormat }), tokenizer, endTokenIds };
}

/** The last part of a row that is trained, and what is before it. */
function scoredRow(examples: TokenExamples, index: number): ScoredRow {
  const { ids, trained } = examples.sequence(index);
  const end = trained.lastIndexOf(1) + 1;
  const start = trained.subarray(0, end).lastIndexOf(0) + 1;
  return { promptIds: ids.slice(0, start), referenceIds: ids.slice(start, end) };
}

function lengthLimit(job: LimitedJob): LengthLimit {
  return new LengthLimit(lengthsOf(job));
}

/** The limits of a job's sequences. */
export function lengthsOf({ spec, model }: LimitedJob) {
  const { max_seq_length: maxLength, on_overflow: onOverflow } = spec.training;
  return { maxLength, maxPositions: decoderOf(model).maxPositions, onOverflow };
}

/** Most tokens of a sequence of a job. */
export function maxTokensOf(job: LimitedJob): number {
  return lengthLimit(job).maxTokens;
}

/** A max_seq_length beyond the model's positions, the default for instance, matters only if a row is that long. */
export function lengthWarnings({ spec, model }: ObjectiveJob, { longest }: RowCounts): Fault[] {
  const { maxPositions } = decoderOf(model);
  if (spec.training.max_seq_length <= maxPositions || longest <= maxPositions) return [];
  const message = `The model has ${maxPositions} positions: longer rows are handled by on_overflow, although max_seq_length is higher.`;
  return [{ code: 'max_seq_length_limited', message, param: 'training.max_seq_length' }];
}

export function decoderOf({ architecture }: ModelFolder): DecoderArchitecture {
  if (architecture.kind !== 'decoder') throw new Error('next-token trains decoders');
  return architecture;
}

/** So many rows, evenly spread, represent the others where what all begin with is asked. */
const ROWS_COMPARED = 64;

/**
 * Tokens that all rows begin with, up to the first that predicts a label of one: those of a template, or of instructions that all have.
 * Rows may share more with some others; that is not known before.
 */
export function commonBeginning(examples: TokenExamples): number {
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
