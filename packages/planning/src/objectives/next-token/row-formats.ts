import {
  conversationFaults,
  DatasetRow,
  type MessagesRow,
  type TextualRow,
  textOfMessage,
  textsOfConversation,
  toolCallsOf,
  unsupportedParts,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import type { RowFault, RowFormat } from '../objective.js';

const faults = (row: unknown) => [...unicodeFaults(textsOf(row as TextualRow)), ...emptinessFaults(row as TextualRow)];

/** Rows of text, in the order in which their keys are looked for. */
export const TEXT_FORMATS: readonly RowFormat[] = [
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
