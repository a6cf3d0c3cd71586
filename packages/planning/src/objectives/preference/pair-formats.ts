import { DatasetRow, type OpenAiPreferenceRow, type PairRow, type PreferenceRow } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { unicodeFaults } from '../next-token/row-formats.js';
import { MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from '../objective.js';
import { answerFaults, emptyAnswer, partFaults, promptFaults } from './answer-faults.js';
import { type Conversations, pairOfRow, paramWithin, type TextPair } from './pair-of-row.js';

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
  for (const side of ['chosen', 'rejected'] as const) {
    const answered = { prompt, answer: pair[side], tools, parallelToolCalls };
    faults.push(...answerFaults(answered, names[side], (param) => paramWithin(pair, side, param)));
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
