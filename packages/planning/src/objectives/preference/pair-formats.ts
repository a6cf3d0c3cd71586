import {
  conversationFaults,
  DatasetRow,
  type OpenAiPreferenceRow,
  type PairRow,
  type PreferenceRow,
  textOfMessage,
  textsOfConversation,
  toolCallsOf,
  unsupportedParts,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { unicodeFaults } from '../next-token/row-formats.js';
import { MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from '../objective.js';
import { type Conversations, pairOfRow, paramWithin, type TextPair } from './pair-of-row.js';

/** Rows of two answers to a prompt, in the order in which their keys are looked for. */
export const PAIR_FORMATS: readonly RowFormat[] = [
  {
    name: 'openai_preference',
    tellingKeys: ['preferred_output', 'non_preferred_output'],
    keys: '"input", "preferred_output" and "non_preferred_output"',
    schema: Compile(DatasetRow.openai_preference),
    faults: (row) => faultsOf(row as OpenAiPreferenceRow),
    named: (row) => partFaults(row, ['preferred_output', 'non_preferred_output']),
  },
  {
    name: 'preference',
    tellingKeys: ['chosen', 'rejected'],
    keys: '"chosen", "rejected" and optionally "prompt", "tools" and "parallel_tool_calls"',
    schema: Compile(DatasetRow.preference),
    faults: (row) => faultsOf(row as PreferenceRow),
    named: (row) => partFaults(row, ['prompt', 'chosen', 'rejected']),
  },
];

/** Parts of messages that are not text, named as such. */
function partFaults(row: unknown, keys: readonly string[]): RowFault[] {
  const fields = row as Record<string, unknown>;
  const input = fields.input as Record<string, unknown> | null | undefined;
  const lists: [string, unknown][] = keys.map((key) => [key, fields[key]]);
  if (typeof input === 'object' && input !== null) lists.push(['input.messages', input.messages]);
  return lists.flatMap(([at, messages]) =>
    unsupportedParts({ messages }).map(({ message, param }) => ({
      code: 'invalid_dataset' as const,
      message,
      param: param.replace(/^messages/, at),
    })),
  );
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
  if (prompt.at(-1)!.role === 'assistant') {
    const message = 'The last message before the answers is of the assistant. End the prompt with another role.';
    faults.push({ code: 'invalid_dataset', message, param: names.prompt });
  }
  for (const side of ['chosen', 'rejected'] as const) {
    const answer = pair[side];
    const messages = [...prompt, ...answer];
    const at = (param: string) => paramWithin(pair, side, param);
    const wrong = conversationFaults(messages, { tools, parallelToolCalls });
    faults.push(
      ...wrong.map(({ message, param }) => ({ code: 'invalid_dataset' as const, message, param: at(param) })),
    );
    if (wrong.length > 0) continue;
    faults.push(...unicodeFaults(textsOfConversation(messages, tools).map(([param, text]) => [at(param), text])));
    const turns = answer.filter(({ role }) => role === 'assistant');
    const isEmpty = turns.every((turn) => textOfMessage(turn) === '' && toolCallsOf(turn).length === 0);
    if (isEmpty) faults.push(emptyAnswer(names[side]));
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

function emptyAnswer(param: string): RowFault {
  return { code: 'no_trained_tokens', message: 'The answer is empty, so there is nothing to train.', param };
}
