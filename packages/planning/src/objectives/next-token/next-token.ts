import {
  conversationFaults,
  DatasetRow,
  type Fault,
  type MessagesRow,
  ProductError,
  type SamplePrompt,
  type TextualRow,
  textOfMessage,
  textsOfConversation,
  toolCallsOf,
  unsupportedParts,
} from '@lorasmith/contracts';
import {
  type DecoderArchitecture,
  digestTokenizer,
  loadChatTemplate,
  type ModelFolder,
  type ModelTexts,
} from '@lorasmith/model-folder';
import { Compile } from 'typebox/compile';
import type { RowCounts } from '../../example-file/example-file.js';
import {
  type LimitedJob,
  type Objective,
  type ObjectiveJob,
  ONE_SEQUENCE,
  type PromptEncoder,
  type RowFault,
  type RowFormat,
  type RowsOfModel,
  refuseObjective,
  type ScoredRow,
} from '../objective.js';
import { REMARK_WARNINGS, RowEncoder, TokenRowConverter, tokenOutside } from './encode-row.js';
import { LengthLimit, viewSequence } from './length-limit.js';
import { StoredTokens, type TokenExamples } from './token-examples.js';

const faults = (row: unknown) => [...unicodeFaults(textsOf(row as TextualRow)), ...emptinessFaults(row as TextualRow)];

/** Rows of text, in the order in which their keys are looked for. */
const TEXT_FORMATS: readonly RowFormat[] = [
  {
    name: 'messages',
    tellingKeys: ['messages'],
    keys: '"messages" and optionally "tools" and "parallel_tool_calls"',
    schema: Compile(DatasetRow.messages),
    faults: (row) => conversationRowFaults(row as MessagesRow),
    named: (row) => unsupportedParts(row).map((fault) => ({ code: 'invalid_dataset', ...fault })),
  },
  {
    name: 'prompt_completion',
    tellingKeys: ['prompt', 'completion'],
    keys: '"prompt" and "completion"',
    schema: Compile(DatasetRow.prompt_completion),
    faults,
  },
  {
    name: 'instruction',
    tellingKeys: ['instruction', 'output'],
    keys: '"instruction", "output" and optionally "input"',
    schema: Compile(DatasetRow.instruction),
    faults,
  },
  { name: 'text', tellingKeys: ['text'], keys: '"text"', schema: Compile(DatasetRow.text), faults },
];

/** A lone surrogate (`\ud800` in JSON) has no UTF-8 form, so every tokenizer would make something else of it. */
export function unicodeFaults(texts: readonly [param: string, text: string][]): RowFault[] {
  return texts
    .filter(([, text]) => !text.isWellFormed())
    .map(([param]) => ({
      code: 'invalid_dataset',
      message: 'The text has a lone surrogate (\\ud800 to \\udfff).',
      param,
    }));
}

function conversationRowFaults(row: MessagesRow): RowFault[] {
  const { messages, tools, parallel_tool_calls: parallelToolCalls } = row;
  const wrong = conversationFaults(messages, { tools, parallelToolCalls });
  if (wrong.length > 0) return wrong.map((fault) => ({ code: 'invalid_dataset', ...fault }));
  return [...unicodeFaults(textsOf(row)), ...assistantFaults(row)];
}

function emptinessFaults(row: TextualRow): RowFault[] {
  const learned = 'completion' in row ? 'completion' : 'output' in row ? 'output' : 'text';
  const text = textsOf(row).find(([param]) => param === learned)?.[1];
  if (text !== '') return [];
  return [
    { code: 'no_trained_tokens', message: `"${learned}" is empty, so there is nothing to train.`, param: learned },
  ];
}

function assistantFaults({ messages }: MessagesRow): RowFault[] {
  const nothing = (message: string, param: string): RowFault => ({ code: 'no_trained_tokens', message, param });
  if (!messages.some(({ role }) => role === 'assistant')) {
    const message = 'There is no message with the role "assistant", so there is nothing to train.';
    return [nothing(message, 'messages')];
  }
  const faults: RowFault[] = [];
  for (const [index, message] of messages.entries()) {
    const { role, weight } = message;
    if (role !== 'assistant') {
      if (weight === undefined) continue;
      const text = 'Only an assistant message has a weight.';
      faults.push({ code: 'invalid_dataset', message: text, param: `messages.${index}.weight` });
    } else if (textOfMessage(message) === '' && toolCallsOf(message).length === 0) {
      faults.push(nothing("The assistant's message is empty.", `messages.${index}.content`));
    }
  }
  if (faults.length > 0 || messages.some(({ role, weight }) => role === 'assistant' && weight !== 0)) return faults;
  return [nothing('Every assistant message has the weight 0, so there is nothing to train.', 'messages')];
}

function textsOf(row: TextualRow): [param: string, text: string][] {
  if ('messages' in row) return textsOfConversation(row.messages, row.tools);
  return Object.entries(row).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}

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
function commonBeginning(examples: TokenExamples): number {
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
