import {
  type ChatMessage,
  DatasetRow,
  MAX_RENDERED_TOKENS,
  type OpenAiPreferenceRow,
  type PairRow,
  type PreferenceRow,
  type RenderedRow,
  type TextualRow,
  type Tool,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { type ExampleSource, type Examples, FileExamples } from '../../example-file/examples.js';
import type { CodedFault } from '../../fault-list.js';
import { renderedParts } from '../next-token/encode-row.js';
import { unicodeFaults } from '../next-token/next-token.js';
import { codesOfSequence, type EncodedRow, sequenceOfCodes, trainedOf } from '../next-token/token-examples.js';
import {
  type ConvertedRow,
  MAX_FAULTS_PER_ROW,
  type RowConverter,
  type RowFault,
  type RowFormat,
} from '../objective.js';
import {
  type AnswerEncoder,
  answeredRow,
  answerFaults,
  emptyAnswer,
  partFaults,
  promptFaults,
} from './answer-encoder.js';

/** Rows of two answers to a prompt, in the order in which their keys are looked for. */
export const PAIR_FORMATS: readonly RowFormat[] = [
  {
    name: 'openai_preference',
    tellingKeys: ['preferred_output', 'non_preferred_output'],
    keys: '"input", "preferred_output" and "non_preferred_output"',
    schema: Compile(DatasetRow.openai_preference),
    faults: (row) => faultsOf(row as OpenAiPreferenceRow),
    named: (row) => partFaults(listsOf(row, ['preferred_output', 'non_preferred_output'])),
  },
  {
    name: 'preference',
    tellingKeys: ['chosen', 'rejected'],
    keys: '"chosen", "rejected" and optionally "prompt", "tools" and "parallel_tool_calls"',
    schema: Compile(DatasetRow.preference),
    faults: (row) => faultsOf(row as PreferenceRow),
    named: (row) => partFaults(listsOf(row, ['prompt', 'chosen', 'rejected'])),
  },
];

/** The lists of messages of a row, by their paths. */
function listsOf(row: unknown, keys: readonly string[]): [path: string, messages: unknown][] {
  const fields = row as Record<string, unknown>;
  const input = fields.input as Record<string, unknown> | null | undefined;
  const lists: [string, unknown][] = keys.map((key) => [key, fields[key]]);
  if (typeof input === 'object' && input !== null) lists.push(['input.messages', input.messages]);
  return lists;
}

function faultsOf(row: PairRow): RowFault[] {
  const pair = pairOfRow(row);
  if ('fault' in pair) return [pair.fault];
  return pair.kind === 'text' ? textFaults(pair) : conversationPairFaults(pair);
}

function textFaults({ prompt, chosen, rejected, names }: TextPair): RowFault[] {
  const texts = { [names.prompt]: prompt, [names.chosen]: chosen, [names.rejected]: rejected };
  const faults = unicodeFaults(Object.entries(texts));
  if (faults.length > 0) return faults;
  if (chosen === rejected) return [equalAnswers(names.rejected)];
  return [
    ...(chosen === '' ? [emptyAnswer(names.chosen)] : []),
    ...(rejected === '' ? [emptyAnswer(names.rejected)] : []),
  ];
}

function conversationPairFaults(pair: Conversations): RowFault[] {
  const { prompt, chosen, rejected, tools, parallelToolCalls, names } = pair;
  const faults: RowFault[] = [];
  if (prompt.length === 0) {
    const message = 'The conversation has no prompt: both answers need the same messages before them.';
    return [{ code: 'invalid_dataset', message, param: names.prompt }];
  }
  faults.push(...promptFaults(prompt, names.prompt));
  for (const answerKey of ['chosen', 'rejected'] as const) {
    const answered = { prompt, answer: pair[answerKey], tools, parallelToolCalls };
    faults.push(...answerFaults(answered, names[answerKey], (param) => paramWithin(pair, answerKey, param)));
  }
  if (faults.length === 0 && JSON.stringify(chosen) === JSON.stringify(rejected)) {
    faults.push(equalAnswers(names.rejected));
  }
  // A fault of the prompt is found with both answers.
  const told = new Set<string>();
  return faults
    .filter(({ message, param }) => !told.has(`${param} ${message}`) && told.add(`${param} ${message}`))
    .slice(0, MAX_FAULTS_PER_ROW);
}

function equalAnswers(param: string): RowFault {
  const message = 'Both answers are the same, so there is nothing to prefer. Leave the row out.';
  return { code: 'invalid_dataset', message, param };
}

/** The fields of a row that its parts come from, for faults. */
interface PartNames {
  prompt: string;
  chosen: string;
  rejected: string;
}

/** A prompt and two answers as text. */
interface TextPair {
  kind: 'text';
  prompt: string;
  chosen: string;
  rejected: string;
  /** True if the prompt is what both answers begin with: then it is written as it is, in no chat template. */
  isImplicit: boolean;
  names: PartNames;
}

/** A prompt and two answers as messages. */
interface Conversations {
  kind: 'messages';
  prompt: readonly ChatMessage[];
  chosen: readonly ChatMessage[];
  rejected: readonly ChatMessage[];
  /** The count of messages of each answer's field that belong to the prompt: those that both begin with. */
  shared: number;
  tools: readonly Tool[] | null;
  parallelToolCalls: boolean | undefined;
  names: PartNames;
}

/**
 * A row of either format. Without `prompt`, it is what both answers begin with, in whole messages or in characters: as in TRL, a space
 * before the first difference belongs to the answers.
 */
function pairOfRow(row: PairRow): TextPair | Conversations | { fault: RowFault } {
  if ('input' in row) {
    const { messages, tools = null, parallel_tool_calls: parallelToolCalls } = row.input;
    const names = { prompt: 'input.messages', chosen: 'preferred_output', rejected: 'non_preferred_output' };
    const answers = { chosen: row.preferred_output, rejected: row.non_preferred_output };
    return { kind: 'messages', prompt: messages, ...answers, shared: 0, tools, parallelToolCalls, names };
  }
  const { prompt, chosen, rejected, tools = null, parallel_tool_calls: parallelToolCalls } = row;
  const names = { prompt: prompt === undefined ? 'chosen' : 'prompt', chosen: 'chosen', rejected: 'rejected' };
  if (typeof chosen === 'string' && typeof rejected === 'string') {
    if (tools !== null) return mixed('tools', 'Tools belong to rows of messages, and the answers are text.');
    if (typeof prompt === 'string') return { kind: 'text', prompt, chosen, rejected, isImplicit: false, names };
    if (prompt === undefined) return { kind: 'text', ...splitTexts(chosen, rejected), isImplicit: true, names };
  } else if (typeof chosen !== 'string' && typeof rejected !== 'string') {
    const given = { kind: 'messages' as const, tools, parallelToolCalls, names };
    if (typeof prompt === 'object') return { ...given, prompt, chosen, rejected, shared: 0 };
    if (prompt === undefined) return { ...given, ...splitTurns(chosen, rejected) };
  }
  const message = 'prompt, chosen and rejected are either all text or all lists of messages.';
  return mixed('rejected', message);
}

function mixed(param: string, message: string): { fault: RowFault } {
  return { fault: { code: 'invalid_dataset', message, param } };
}

function splitTexts(chosen: string, rejected: string) {
  let length = 0;
  while (length < chosen.length && length < rejected.length && chosen[length] === rejected[length]) length++;
  const isDifferent = length < chosen.length && length < rejected.length;
  if (isDifferent && (chosen[length - 1] === ' ' || isHighSurrogate(chosen, length - 1))) length--;
  return { prompt: chosen.slice(0, length), chosen: chosen.slice(length), rejected: rejected.slice(length) };
}

/** Two characters may differ in the second half of their codes only. */
function isHighSurrogate(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  return code >= 0xd800 && code < 0xdc00;
}

function splitTurns(chosen: readonly ChatMessage[], rejected: readonly ChatMessage[]) {
  const isSame = (index: number) => JSON.stringify(chosen[index]) === JSON.stringify(rejected[index]);
  let shared = 0;
  while (shared < chosen.length && shared < rejected.length && isSame(shared)) shared++;
  return {
    prompt: chosen.slice(0, shared),
    chosen: chosen.slice(shared),
    rejected: rejected.slice(shared),
    shared,
  };
}

/** The field of a row for a path within the conversation of its prompt and one answer. */
function paramWithin(
  { prompt, shared, names }: Pick<Conversations, 'prompt' | 'shared' | 'names'>,
  answerKey: 'chosen' | 'rejected',
  param: string,
): string {
  const found = /^messages\.(\d+)(.*)$/.exec(param);
  if (found === null) return param.startsWith('tools') && names.prompt === 'input.messages' ? `input.${param}` : param;
  const index = Number(found[1]);
  if (index < prompt.length) return `${names.prompt}.${index}${found[2]}`;
  return `${names[answerKey]}.${index - prompt.length + shared}${found[2]}`;
}

const ANSWER_KEYS = ['chosen', 'rejected'] as const;

/** Rows of two answers to a prompt, for a decoder. */
export class PairRowConverter implements RowConverter<PairRow> {
  readonly #answers: AnswerEncoder;

  constructor(answers: AnswerEncoder) {
    this.#answers = answers;
  }

  convert(row: PairRow): ConvertedRow | CodedFault[] {
    const pair = pairOfRow(row);
    if ('fault' in pair) return [pair.fault];
    const rows = pair.kind === 'text' ? textRows(pair) : conversationRows(pair);
    const isPlain = pair.kind === 'text' && pair.isImplicit;
    const encoded = Object.fromEntries(
      ANSWER_KEYS.map((answerKey) => [
        answerKey,
        this.#answers.encode(rows[answerKey], (param) => at(pair, answerKey, param), isPlain),
      ]),
    ) as Record<(typeof ANSWER_KEYS)[number], EncodedRow>;
    const faults = ANSWER_KEYS.flatMap((answerKey) =>
      this.#answers.faultsOf(encoded[answerKey], pair.names[answerKey]),
    );
    if (faults.length > 0) return faults;
    const trained = trainedOf(encoded.chosen) + trainedOf(encoded.rejected);
    const remarks = this.#answers.remarksOn(Object.values(rows), Object.values(encoded));
    return { codes: codesOfPair(encoded), trained, remarks };
  }

  rendered(codes: Int32Array): RenderedRow {
    const { tokenizer, completionFormat } = this.#answers.settings;
    const { chosen, rejected } = pairOfCodes(codes);
    const parts = ({ ids, trained }: EncodedRow) =>
      renderedParts(tokenizer, {
        ids: ids.subarray(0, MAX_RENDERED_TOKENS),
        trained: trained.subarray(0, MAX_RENDERED_TOKENS),
      });
    return { completion_format: completionFormat, first_row: parts(chosen), rejected: parts(rejected) };
  }
}

function textRows({ prompt, chosen, rejected }: TextPair): Record<(typeof ANSWER_KEYS)[number], TextualRow> {
  return { chosen: { prompt, completion: chosen }, rejected: { prompt, completion: rejected } };
}

function conversationRows(pair: Conversations): Record<(typeof ANSWER_KEYS)[number], TextualRow> {
  return {
    chosen: answeredRow({ ...pair, answer: pair.chosen }),
    rejected: answeredRow({ ...pair, answer: pair.rejected }),
  };
}

function at(pair: TextPair | Conversations, answerKey: (typeof ANSWER_KEYS)[number], param: string): string {
  return pair.kind === 'text' ? pair.names[answerKey] : paramWithin(pair, answerKey, param);
}

/** A prompt with each of its two answers, as tokens. Targets of the loss are the tokens of the answers. */
export interface TokenPair {
  chosen: EncodedRow;
  rejected: EncodedRow;
}

/** Pairs of answers, for any objective of them. The length of an example is that of both sequences together. */
export interface PairExamples<Kind extends string = 'preference'> extends Examples {
  readonly kind: Kind;
  pair(index: number): TokenPair;
}

export class StoredPairs<Kind extends string> extends FileExamples implements PairExamples<Kind> {
  readonly kind: Kind;

  constructor(source: ExampleSource, kind: Kind) {
    super(source);
    this.kind = kind;
  }

  pair(index: number): TokenPair {
    return pairOfCodes(this.codes(index));
  }
}

/** Marks the code with which the second sequence begins; ids are far smaller than 2^30. */
const SECOND = 0x40000000;

/**
 * A pair in codes of 4 bytes: the first sequence from its end to its beginning, then the second. So both, cut to the same length, are a
 * part of the codes.
 */
export function codesOfPair({ chosen, rejected }: TokenPair): Int32Array {
  const codes = new Int32Array(chosen.ids.length + rejected.ids.length);
  codes.set(codesOfSequence(chosen).reverse());
  codes.set(codesOfSequence(rejected), chosen.ids.length);
  codes[chosen.ids.length]! |= SECOND;
  return codes;
}

/** The length of the first sequence. */
export function lengthOfFirst(codes: Int32Array): number {
  return codes.findIndex((code) => (code & SECOND) !== 0);
}

export function pairOfCodes(codes: Int32Array): TokenPair {
  const middle = lengthOfFirst(codes);
  const second = codes.slice(middle);
  second[0]! &= ~SECOND;
  return { chosen: sequenceOfCodes(codes.slice(0, middle).reverse()), rejected: sequenceOfCodes(second) };
}

/** Tokens of the longer of the two sequences. */
export function longerOf(codes: Int32Array): number {
  const first = lengthOfFirst(codes);
  return Math.max(first, codes.length - first);
}
